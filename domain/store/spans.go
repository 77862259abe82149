package store

import (
	"errors"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"gorm.io/gorm"
)

// spans makes every statement a span of the work that it is done for, where that
// is traced. A span says what is done with which table, and holds no value.
func spans(db *gorm.DB, system string) error {
	const key = "chainreactions:span"
	begin := func(db *gorm.DB) {
		parent := trace.SpanFromContext(db.Statement.Context)
		if !parent.IsRecording() {
			return
		}
		_, span := parent.TracerProvider().Tracer("chainreactions").Start(db.Statement.Context, "sql", trace.WithSpanKind(trace.SpanKindClient),
			trace.WithAttributes(attribute.String("db.system.name", system)))
		db.InstanceSet(key, span)
	}
	end := func(db *gorm.DB) {
		v, ok := db.InstanceGet(key)
		if !ok {
			return
		}
		span := v.(trace.Span)
		verb, table := does(db.Statement.SQL.String())
		span.SetName(strings.TrimSpace(verb + " " + table))
		span.SetAttributes(attribute.String("db.operation.name", verb), attribute.String("db.collection.name", table))
		if db.Error != nil && !errors.Is(db.Error, gorm.ErrRecordNotFound) {
			span.SetStatus(codes.Error, "")
		}
		span.End()
	}
	c := db.Callback()
	return errors.Join(
		c.Query().Before("*").Register("chainreactions:begin", begin), c.Query().After("*").Register("chainreactions:end", end),
		c.Row().Before("*").Register("chainreactions:begin", begin), c.Row().After("*").Register("chainreactions:end", end),
		c.Create().Before("*").Register("chainreactions:begin", begin), c.Create().After("*").Register("chainreactions:end", end),
		c.Update().Before("*").Register("chainreactions:begin", begin), c.Update().After("*").Register("chainreactions:end", end),
		c.Delete().Before("*").Register("chainreactions:begin", begin), c.Delete().After("*").Register("chainreactions:end", end),
		c.Raw().Before("*").Register("chainreactions:begin", begin), c.Raw().After("*").Register("chainreactions:end", end),
	)
}

// does says what a statement does with which table, its first one.
func does(sql string) (verb, table string) {
	for word := range strings.FieldsSeq(sql) {
		switch upper := strings.ToUpper(word); {
		case verb == "":
			verb = upper
		case upper == "FROM" || upper == "INTO":
			table = upper
			continue
		case table != "" && strings.HasPrefix(word, "("): // a statement of its own
			table = ""
		case table != "" || verb == "UPDATE":
			return verb, strings.Trim(word, `"`+"`(),;")
		}
	}
	return verb, ""
}
