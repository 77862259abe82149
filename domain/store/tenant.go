package store

import (
	"errors"
	"reflect"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/schema"

	"github.com/chainreactions/chainreactions/domain"
)

// Owned is embedded by every row that belongs to a tenant. The column is
// stamped on create and never updated.
type Owned struct {
	TenantID string `gorm:"column:tenant_id;<-:create" json:"-"`
}

// The refusals of the first wall. They are our own mistakes, so they have no
// kind and a customer sees a plain 500.
var (
	errNoScope  = errors.New("store: query without a scope")
	errNoTenant = errors.New("store: query without a tenant")
	errNoSchema = errors.New("store: query without a schema: Raw, Exec and Table pass the tenant filter; use Store.SQL")
	errGlobal   = errors.New("store: this table belongs to no tenant: only a domain.System scope may touch it")
	errStolen   = errors.New("store: row of another tenant")
)

const (
	allowRaw = "chainreactions:raw" // set by Store.SQL after it has seen the tenant in the statement
)

// wall registers the tenant filter on every path by which GORM reaches the
// database.
func wall(db *gorm.DB) error {
	filter := func(db *gorm.DB) { scopeStatement(db) }
	change := func(db *gorm.DB) { refuseUnconditional(db); scopeStatement(db) }
	return errors.Join(
		db.Callback().Query().Before("gorm:query").Register("chainreactions:tenant", filter),
		db.Callback().Row().Before("gorm:row").Register("chainreactions:tenant", filter),
		db.Callback().Update().Before("gorm:update").Register("chainreactions:tenant", change),
		db.Callback().Delete().Before("gorm:delete").Register("chainreactions:tenant", change),
		db.Callback().Raw().Before("gorm:raw").Register("chainreactions:tenant", filter),
		db.Callback().Create().Before("gorm:create").Register("chainreactions:tenant", stampStatement),
	)
}

// scopeStatement adds the tenant to a read, update or delete, or refuses it.
func scopeStatement(db *gorm.DB) {
	stmt := db.Statement
	scope, ok := domain.ScopeOf(stmt.Context)
	if !ok {
		_ = db.AddError(errNoScope)
		return
	}
	_, system := scope.System()
	if !system && !domain.ValidID("ten", scope.Tenant) {
		_ = db.AddError(errNoTenant)
		return
	}
	if system {
		return
	}
	if _, ok := db.Get(allowRaw); ok {
		return
	}
	if stmt.SQL.Len() > 0 || stmt.Schema == nil {
		_ = db.AddError(errNoSchema)
		return
	}
	if !owned(stmt.Schema) {
		_ = db.AddError(errGlobal)
		return
	}
	// The caller's conditions are bracketed first, or an Or among them would
	// widen the filter.
	var exprs []clause.Expression
	if c, ok := stmt.Clauses["WHERE"]; ok {
		if where, ok := c.Expression.(clause.Where); ok && len(where.Exprs) > 0 {
			exprs = append(exprs, bracketed{where})
		}
		delete(stmt.Clauses, "WHERE")
	}
	exprs = append(exprs, clause.Eq{
		Column: clause.Column{Table: clause.CurrentTable, Name: "tenant_id"}, Value: scope.Tenant,
	})
	stmt.AddClause(clause.Where{Exprs: exprs})
}

// refuseUnconditional keeps GORM's rule that an update or delete names what it
// means: our filter is a condition too, and would satisfy the rule by itself.
func refuseUnconditional(db *gorm.DB) {
	stmt := db.Statement
	if _, ok := stmt.Clauses["WHERE"]; ok || stmt.Schema == nil || db.AllowGlobalUpdate {
		return
	}
	keyed := func(row reflect.Value) bool {
		for _, f := range stmt.Schema.PrimaryFields {
			if _, zero := f.ValueOf(stmt.Context, row); !zero && f.DBName != "tenant_id" {
				return true
			}
		}
		return false
	}
	switch value := stmt.ReflectValue; value.Kind() {
	case reflect.Struct:
		if keyed(value) {
			return
		}
	case reflect.Slice, reflect.Array:
		if value.Len() > 0 && keyed(reflect.Indirect(value.Index(0))) {
			return
		}
	}
	_ = db.AddError(gorm.ErrMissingWhereClause)
}

// stampStatement writes the tenant into what is created, and keeps an upsert
// from taking over another tenant's row of the same key.
func stampStatement(db *gorm.DB) {
	stmt := db.Statement
	scope, ok := domain.ScopeOf(stmt.Context)
	if !ok {
		_ = db.AddError(errNoScope)
		return
	}
	if stmt.Schema == nil {
		_ = db.AddError(errNoSchema)
		return
	}
	_, system := scope.System()
	if !owned(stmt.Schema) {
		if !system {
			_ = db.AddError(errGlobal)
		}
		return
	}
	field := stmt.Schema.LookUpField("tenant_id")
	stamp := func(row reflect.Value) {
		value, zero := field.ValueOf(stmt.Context, row)
		switch {
		case system && (zero || !domain.ValidID("ten", value.(string))):
			_ = db.AddError(errNoTenant)
		case system:
		case !domain.ValidID("ten", scope.Tenant):
			_ = db.AddError(errNoTenant)
		case !zero && value != scope.Tenant:
			_ = db.AddError(errStolen)
		default:
			_ = db.AddError(field.Set(stmt.Context, row, scope.Tenant))
		}
	}
	switch stmt.ReflectValue.Kind() {
	case reflect.Slice, reflect.Array:
		for i := range stmt.ReflectValue.Len() {
			stamp(reflect.Indirect(stmt.ReflectValue.Index(i)))
		}
	case reflect.Struct:
		stamp(stmt.ReflectValue)
	default: // a map has no place to read the tenant back from
		_ = db.AddError(errNoSchema)
	}
	if c, ok := stmt.Clauses["ON CONFLICT"]; ok && !system {
		if conflict, ok := c.Expression.(clause.OnConflict); ok && !conflict.DoNothing {
			conflict.Where.Exprs = append(conflict.Where.Exprs, clause.Eq{
				Column: clause.Column{Table: stmt.Table, Name: "tenant_id"}, Value: scope.Tenant,
			})
			stmt.AddClause(conflict)
		}
	}
}

func owned(s *schema.Schema) bool { return s.LookUpField("tenant_id") != nil }

type bracketed struct{ where clause.Where }

func (b bracketed) Build(builder clause.Builder) {
	_ = builder.WriteByte('(')
	b.where.Build(builder)
	_ = builder.WriteByte(')')
}
