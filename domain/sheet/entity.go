package sheet

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/chainreactions/chainreactions/domain/ftm"
)

// openFTM reads one FollowTheMoney entity in each line.
func (r *Reader) openFTM(in *bufio.Reader) {
	r.info.Format = FTM
	var line int64
	var buf []byte
	r.next = func() (Row, error) {
		for {
			buf = buf[:0]
			var err error
			for err = bufio.ErrBufferFull; errors.Is(err, bufio.ErrBufferFull); {
				var part []byte
				part, err = in.ReadSlice('\n')
				if buf = append(buf, part...); len(buf) > r.limits.MaxRowBytes {
					return Row{}, fault(RowTooLong, line+1, "> %d", r.limits.MaxRowBytes)
				}
			}
			if err != nil && (err != io.EOF || len(buf) == 0) {
				return Row{}, err
			}
			line++
			if text := bytes.TrimSpace(buf); len(text) > 0 {
				return entityRow(text, line, &r.limits), nil
			}
		}
	}
}

func entityRow(text []byte, line int64, limits *Limits) Row {
	row := Row{Line: line}
	var e ftm.Entity
	if err := json.Unmarshal(text, &e); err != nil {
		code := InvalidEntity
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			code = InvalidJSON
		}
		row.issue("", code, string(text), isError)
		return row
	}
	if e.Schema == "" {
		if json.Unmarshal(text, &row.Record) == nil && trim(row.Record.Name) != "" {
			row.takeRecord(limits)
			return row
		}
		row.Record = Record{}
		row.issue("schema", InvalidEntity, string(text), isError)
		return row
	}
	row.take(&e, limits)
	return row
}

// takeRecord holds a line that WriteJSONL wrote to what a row must be. The id is
// of the list that it comes from.
func (row *Row) takeRecord(limits *Limits) {
	rec := &row.Record
	rec.ID = ""
	if len(rec.Properties) == 0 {
		rec.Properties = nil
	}
	fields := map[string]*string{"name": &rec.Name, "schema_type": &rec.SchemaType, "external_id": &rec.ExternalID, "description": &rec.Description,
		"data_source_url": &rec.SourceURL, "published_date": &rec.Published, "updated_date": &rec.Updated}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		v := trim(*fields[name])
		*fields[name] = ""
		if v != "" && row.usable(name, v, limits) {
			row.set(&target{to: fieldIndex(name) + 1, header: name}, v)
		}
	}
	for name, list := range map[string]*[]string{"aliases": &rec.Aliases, "countries": &rec.Countries, "cities": &rec.Cities} {
		values := *list
		*list = nil
		for _, v := range values {
			if v = trim(v); v != "" && v != rec.Name && !slices.Contains(*list, v) && row.usable(name, v, limits) {
				*list = append(*list, v)
			}
		}
	}
	for name, f := range map[string]**float64{"latitude": &rec.Latitude, "longitude": &rec.Longitude} {
		if v := *f; v != nil {
			*f = nil
			row.setCoordinate(&target{to: fieldIndex(name) + 1, header: name}, decimal(v))
		}
	}
}

// usable rejects the row over a text that nothing can keep.
func (row *Row) usable(column, v string, limits *Limits) bool {
	switch {
	case strings.IndexByte(v, 0) >= 0:
		row.issue(column, NULByte, v, isError)
	case len(v) > limits.MaxCellBytes:
		row.issue(column, CellTooLong, v, isError)
	default:
		return true
	}
	return false
}

// names are the properties that are names of the entity, best first.
var names = []string{"name", "alias", "previousName", "weakAlias", "abbreviation"}

// countryProperties say where an entity belongs.
var countryProperties = []string{"country", "jurisdiction", "nationality", "citizenship", "mainCountry"}

// take maps a FollowTheMoney entity to the row's record. What has no field of
// its own stays a property of the same name.
func (row *Row) take(e *ftm.Entity, limits *Limits) {
	s, known := ftm.Lookup(e.Schema)
	if known && (!s.IsA("Thing") || s.Name == "Address") {
		row.issue("schema", NotListed, e.Schema, isError)
		return
	}
	if !known {
		row.issue("schema", UnknownSchema, e.Schema, isWarning)
	}
	rec := &row.Record
	rec.SchemaType, rec.ExternalID = e.Schema, e.ID
	own := e.Properties["name"]
	if len(own) > 0 {
		rec.Name = trim(own[0])
		if slices.Contains(own, e.Caption) && trim(e.Caption) != "" {
			rec.Name = trim(e.Caption)
		}
	}
	for _, p := range names {
		for _, v := range e.Properties[p] {
			if v = trim(v); v != "" && v != rec.Name && !slices.Contains(rec.Aliases, v) {
				rec.Aliases = append(rec.Aliases, v)
			}
		}
	}
	if rec.Name == "" && len(rec.Aliases) > 0 {
		rec.Name, rec.Aliases = rec.Aliases[0], rec.Aliases[1:]
		row.issue("name", NameFromAlias, rec.Name, isWarning)
	}
	if rec.Name == "" {
		row.issue("name", MissingName, e.ID, isError)
	}
	for _, v := range append([]string{rec.Name}, rec.Aliases...) {
		row.usable("name", v, limits)
	}
	if row.Rejected {
		return
	}
	for _, p := range countryProperties {
		for _, v := range e.Properties[p] {
			if v = trim(v); v != "" && !slices.Contains(rec.Countries, v) {
				rec.Countries = append(rec.Countries, v)
			}
		}
	}
	date := func(property string, into *string, fallback string) {
		values := e.Properties[property]
		if len(values) == 0 && fallback != "" {
			values = []string{fallback}
		}
		for _, v := range values {
			if d, ok := isoDate(v); !ok {
				row.issue(property, InvalidDate, v, isWarning)
				rec.keep(property, v)
			} else if *into == "" {
				*into = d
			} else {
				rec.keep(property, v)
			}
		}
	}
	date("createdAt", &rec.Published, e.FirstSeen)
	date("modifiedAt", &rec.Updated, e.LastChange)
	for _, v := range e.Properties["sourceUrl"] {
		switch {
		case !webURL(v):
			row.issue("sourceUrl", InvalidURL, v, isWarning)
			rec.keep("sourceUrl", v)
		case rec.SourceURL == "":
			rec.SourceURL = v
		default:
			rec.keep("sourceUrl", v)
		}
	}
	if d := e.Properties["description"]; len(d) > 0 {
		rec.Description = trim(strings.Join(d, "\n"))
	}
	for _, p := range slices.Sorted(maps.Keys(e.Properties)) {
		if slices.Contains(names, p) || slices.Contains(countryProperties, p) {
			continue
		}
		switch p {
		case "createdAt", "modifiedAt", "sourceUrl", "description":
		default:
			rec.keep(p, e.Properties[p]...)
		}
	}
	if len(e.Datasets) > 0 {
		rec.keep("datasets", e.Datasets...)
	}
}

// Entity maps a record to FollowTheMoney so that the model allows all of it: a
// value that has no place there becomes a note "header: value", and a type
// that is no schema of a thing becomes the classification of a LegalEntity.
func (rec *Record) Entity() *ftm.Entity {
	e := &ftm.Entity{ID: rec.ExternalID, Schema: rec.SchemaType} // its own id comes back as it was
	if e.ID == "" {
		e.ID = rec.ID
	}
	s, ok := ftm.Lookup(e.Schema)
	if !ok || s.Abstract || !s.IsA("Thing") || s.Name == "Address" {
		e.Schema = "LegalEntity"
		s, _ = ftm.Lookup(e.Schema)
	}
	put := func(property, label string, values ...string) {
		p, ok := s.Property(property)
		for _, v := range values {
			if ok && v != "" && p.Type == "country" {
				v = strings.ToLower(v)
			}
			fits := ok && p.Allows(v) && (p.MaxLength == 0 || len([]rune(v)) <= p.MaxLength)
			switch {
			case v == "":
			case fits:
				e.Add(property, v)
			default:
				e.Add("notes", label+": "+v)
			}
		}
	}
	put("name", "name", rec.Name)
	if len(e.Properties["name"]) == 0 { // longer than the model's 384 runes: cut, and whole in the notes
		e.Add("name", string([]rune(rec.Name)[:min(384, len([]rune(rec.Name)))]))
	}
	put("alias", "alias", rec.Aliases...)
	put("country", "country", rec.Countries...)
	put("address", "city", rec.Cities...)
	if e.Schema != rec.SchemaType {
		put("classification", "type", rec.SchemaType)
	}
	put("description", "description", rec.Description)
	put("sourceUrl", "source", rec.SourceURL)
	put("createdAt", "published", rec.Published)
	put("modifiedAt", "updated", rec.Updated)
	put("", "latitude", decimal(rec.Latitude))
	put("", "longitude", decimal(rec.Longitude))
	for _, p := range slices.Sorted(maps.Keys(rec.Properties)) {
		switch {
		case p == "datasets" && len(e.Datasets) == 0:
			e.Datasets = rec.Properties[p]
		default:
			put(p, p, rec.Properties[p]...)
		}
	}
	return e
}
