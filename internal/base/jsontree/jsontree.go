// Package jsontree edits JSON documents in place. A document is parsed lazily, one object or array at a time: what
// nobody looks at stays raw bytes, so that changing two fields of a large document costs little more than one scan of
// it. The order of members and the spelling of numbers are kept.
//
//	v, err := jsontree.Parse(doc)
//	v.Member("HostConfig").Delete("Init")
//	out := v.AppendTo(nil)
package jsontree

import (
	"bytes"
	"encoding/json"
	"errors"
	"iter"
	"strconv"
	"sync"
)

// Kind is the type of a JSON value.
type Kind byte

// The kinds of values; Missing is that of a nil *Value.
const (
	Missing Kind = iota
	Null
	Bool
	Number
	String
	Array
	Object
)

// ErrSyntax says that a document is not valid JSON.
var ErrSyntax = errors.New("invalid JSON")

// Value is one JSON value. All methods work on a nil *Value, which stands for a missing one: reads answer zero values
// and writes do nothing. A Value is not safe for concurrent use.
type Value struct {
	raw  []byte // the source text while it has not been opened
	kind Kind
	open bool // the members hold the content
	*members
}

// Parse reads one document. The bytes belong to the Value afterwards.
func Parse(doc []byte) (*Value, error) {
	if !json.Valid(doc) {
		return nil, ErrSyntax
	}
	return parseValid(doc), nil
}

// Of encodes v and opens the result. A value that cannot be encoded is an error.
func Of(v any) (*Value, error) {
	if t, ok := v.(*Value); ok {
		return t, nil
	}
	b, err := encode(nil, v)
	if err != nil {
		return nil, err
	}
	return &Value{raw: b, kind: kindOf(b[0])}, nil // nothing stands around what encode writes
}

// Edit encodes a value, lets edit change it and answers the text. The Value and the strings that it tells are valid during
// the call only: their bytes are used again. The items of a list and members of the names in deep are opened while the
// document is read, which saves a second reading of those that edit looks into anyway.
func Edit(v any, deep []string, edit func(*Value)) ([]byte, error) {
	if t, ok := v.(*Value); ok {
		edit(t)
		return t.AppendTo(nil), nil
	}
	buf := buffers.Get().(*bytes.Buffer)
	buf.Reset()
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	text := buf.Bytes()[:buf.Len()-1] // nothing but a newline stands around what Encode writes
	doc := &Value{raw: text, kind: kindOf(text[0])}
	doc.unfold(deep...)
	edit(doc)
	out := doc.AppendTo(make([]byte, 0, buf.Len()+roomForEdits))
	if buf.Cap() <= maxKept {
		buffers.Put(buf)
	}
	return out, nil
}

const (
	roomForEdits = 512     // more or less what edits add to a document
	maxKept      = 1 << 20 // larger buffers are left to the collector
)

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// encode appends the text of a value.
func encode(b []byte, v any) ([]byte, error) {
	switch t := v.(type) {
	case nil:
		return append(b, "null"...), nil
	case string:
		return appendQuoted(b, t), nil
	case bool:
		return strconv.AppendBool(b, t), nil
	case int:
		return strconv.AppendInt(b, int64(t), 10), nil
	case int64:
		return strconv.AppendInt(b, t, 10), nil
	case struct{}:
		return append(b, "{}"...), nil
	}
	text, err := json.Marshal(v)
	if err != nil || b == nil {
		return text, err
	}
	return append(b, text...), nil
}

// parseValid opens bytes that are known to be valid JSON.
func parseValid(b []byte) *Value {
	i := skipSpace(b, 0)
	end := skipValue(b, i)
	return &Value{raw: b[i:end], kind: kindOf(b[i])}
}

func kindOf(c byte) Kind {
	switch c {
	case '{':
		return Object
	case '[':
		return Array
	case '"':
		return String
	case 't', 'f':
		return Bool
	case 'n':
		return Null
	}
	return Number
}

// Kind tells the type.
func (v *Value) Kind() Kind {
	if v == nil {
		return Missing
	}
	return v.kind
}

// Empty tells whether the value is missing, null, false, 0, "", [] or {}.
func (v *Value) Empty() bool {
	switch v.Kind() {
	case Missing, Null:
		return true
	case Bool:
		return !v.Bool()
	case Number:
		return v.Float() == 0
	case String:
		return len(v.raw) == 2
	}
	return v.Len() == 0
}

// Len is the number of members or items.
func (v *Value) Len() int {
	switch v.Kind() {
	case Object:
		v.unfold()
		return v.count
	case Array:
		v.unfold()
		return len(v.items)
	}
	return 0
}

// Member finds a member of an object: by exact name or, as encoding/json does, in any case of ASCII letters. nil if
// missing; the empty name is never found.
func (v *Value) Member(name string) *Value {
	if i := v.index(name); i >= 0 {
		return v.value(i)
	}
	return nil
}

// At follows a path of members.
func (v *Value) At(path ...string) *Value {
	for _, p := range path {
		v = v.Member(p)
	}
	return v
}

// Has tells whether an object has a member.
func (v *Value) Has(name string) bool { return v.index(name) >= 0 }

func (v *Value) index(name string) int {
	if v.Kind() != Object || name == "" {
		return -1
	}
	v.unfold()
	return v.find(name)
}

// Members goes through an object's members in order. The object may be changed meanwhile; what is added is not visited.
func (v *Value) Members() iter.Seq2[string, *Value] {
	return func(yield func(string, *Value) bool) {
		if v.Kind() != Object {
			return
		}
		v.unfold()
		for i := range len(v.list) {
			if !v.list[i].gone && !yield(v.name(i), v.value(i)) {
				return
			}
		}
	}
}

// Keys are an object's member names in order.
func (v *Value) Keys() []string {
	if v.Len() == 0 || v.kind != Object {
		return nil
	}
	keys := make([]string, 0, v.count)
	for i := range v.list {
		if !v.list[i].gone {
			keys = append(keys, v.name(i))
		}
	}
	return keys
}

// Items are an array's items or an object's values in order.
func (v *Value) Items() []*Value {
	if v.Len() == 0 {
		return nil
	}
	if v.kind == Array {
		return v.items
	}
	items := make([]*Value, 0, v.count)
	for _, it := range v.Members() {
		items = append(items, it)
	}
	return items
}

// Set gives an object's member a value: a *Value or anything that encoding/json can encode (what it cannot becomes null).
func (v *Value) Set(name string, val any) {
	if v.Kind() != Object {
		return
	}
	v.unfold()
	if i := v.find(name); i >= 0 {
		m := v.write(name, val)
		m.hash = v.list[i].hash // names that differ in case only have the same
		v.list[i] = m
		return
	}
	v.put(name, v.write(name, val))
}

// Add appends a member even where one of another letter case stands: for documents that spelled a key in two ways.
func (v *Value) Add(name string, val any) {
	if v.Kind() != Object {
		return
	}
	v.unfold()
	v.put(name, v.write(name, val))
}

// Default sets a member that is missing.
func (v *Value) Default(name string, val any) {
	if v.Kind() == Object && v.index(name) < 0 {
		v.put(name, v.write(name, val))
	}
}

// Delete removes members, in whatever case of letters they are spelled.
func (v *Value) Delete(names ...string) {
	if v.Kind() != Object {
		return
	}
	v.unfold()
	for _, name := range names {
		v.drop(name)
	}
}

// Rename moves a member to another name, over one that is there.
func (v *Value) Rename(from, to string) {
	if m := v.Member(from); m != nil {
		v.Delete(from)
		v.Set(to, m)
	}
}

// Ensure answers the object member of that name, making an empty one where it is missing or null.
func (v *Value) Ensure(name string) *Value {
	if m := v.Member(name); m.Kind() == Object {
		return m
	}
	if v.Kind() != Object {
		return nil
	}
	v.Set(name, struct{}{})
	return v.Member(name)
}

// SetItems makes the value an array.
func (v *Value) SetItems(items []*Value) {
	if v != nil {
		*v = Value{kind: Array, open: true, members: &members{items: items}}
	}
}

// String is the text of a string; "" for other kinds.
func (v *Value) String() string {
	if v.Kind() != String {
		return ""
	}
	return unquote(v.raw)
}

// Bool is true for true.
func (v *Value) Bool() bool { return v.Kind() == Bool && v.raw[0] == 't' }

// Float is the value of a number, 0 for other kinds.
func (v *Value) Float() float64 {
	if v.Kind() != Number {
		return 0
	}
	f, _ := strconv.ParseFloat(string(v.raw), 64)
	return f
}

// Int is the integer of a number, 0 for other kinds and fractions.
func (v *Value) Int() int64 {
	if v.Kind() != Number {
		return 0
	}
	n, _ := strconv.ParseInt(string(v.raw), 10, 64)
	return n
}

// Strings are the items of an array of strings.
func (v *Value) Strings() []string {
	if v.Kind() != Array {
		return nil
	}
	var out []string
	for _, it := range v.Items() {
		out = append(out, it.String())
	}
	return out
}

// Size is the length of the text of a value that has not been looked into yet; 0 afterwards.
func (v *Value) Size() int {
	if v == nil {
		return 0
	}
	return len(v.raw)
}

// Decode decodes the value into a Go value.
func (v *Value) Decode(into any) error {
	if v == nil {
		return nil
	}
	return json.Unmarshal(v.AppendTo(nil), into)
}

// MarshalJSON implements json.Marshaler.
func (v *Value) MarshalJSON() ([]byte, error) {
	if v == nil {
		return []byte("null"), nil
	}
	return v.AppendTo(nil), nil
}

// AppendTo appends the document's text.
func (v *Value) AppendTo(b []byte) []byte {
	switch {
	case v == nil:
		return append(b, "null"...)
	case !v.open:
		return append(b, v.raw...)
	case v.kind == Object:
		return v.appendTo(b)
	}
	b = append(b, '[')
	for i, it := range v.items {
		if i > 0 {
			b = append(b, ',')
		}
		b = it.AppendTo(b)
	}
	return append(b, ']')
}
