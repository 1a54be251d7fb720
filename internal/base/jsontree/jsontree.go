// Package jsontree edits JSON documents in place. A document is parsed lazily, one object or array at a time: what
// nobody looks at stays raw bytes, so that changing two fields of a large document costs little more than one scan of
// it. The order of members and the spelling of numbers are kept.
//
//	v, err := jsontree.Parse(doc)
//	v.Member("HostConfig").Delete("Init")
//	out := v.AppendTo(nil)
package jsontree

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
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

// members are the content of an opened object or array.
type members struct {
	keys  []string // of an object
	items []*Value
	seen  [4]uint64 // a filter of the names in keys, and perhaps of more: what is not in it is missing
}

// note adds a name to the filter.
func (m *members) note(name string) {
	h := sketch(name)
	m.seen[h>>6&3] |= 1 << (h & 63)
}

// perhaps is false for a name that is not there in any case of letters.
func (m *members) perhaps(name string) bool {
	h := sketch(name)
	return m.seen[h>>6&3]&(1<<(h&63)) != 0
}

// sketch is a hash that letters' case does not change.
func sketch(name string) uint {
	if name == "" {
		return 0
	}
	first, middle, last := uint(name[0]|0x20), uint(name[len(name)/2]|0x20), uint(name[len(name)-1]|0x20)
	return first*7 + middle*29 + last*53 + uint(len(name))*11
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
	switch t := v.(type) {
	case *Value:
		return t, nil
	case nil:
		return &Value{raw: []byte("null"), kind: Null}, nil
	case string:
		return &Value{raw: appendQuoted(make([]byte, 0, len(t)+2), t), kind: String}, nil
	case bool:
		return &Value{raw: strconv.AppendBool(nil, t), kind: Bool}, nil
	case int:
		return &Value{raw: strconv.AppendInt(nil, int64(t), 10), kind: Number}, nil
	case int64:
		return &Value{raw: strconv.AppendInt(nil, t, 10), kind: Number}, nil
	case struct{}:
		return &Value{raw: []byte("{}"), kind: Object}, nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return &Value{raw: b, kind: kindOf(b[0])}, nil // nothing stands around what Marshal writes
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
	if k := v.Kind(); k != Object && k != Array {
		return 0
	}
	v.unfold()
	return len(v.items)
}

// Member finds a member of an object: by exact name or, as encoding/json does, in any case of ASCII letters. nil if
// missing; the empty name is never found.
func (v *Value) Member(name string) *Value {
	if i := v.index(name); i >= 0 {
		return v.items[i]
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
	if !v.perhaps(name) {
		return -1
	}
	alike := -1
	for i := len(v.keys) - 1; i >= 0; i-- {
		k := v.keys[i]
		if len(k) != len(name) || (k[0]^name[0])&^0x20 != 0 {
			continue
		}
		if k == name {
			return i
		}
		if alike < 0 && strings.EqualFold(k, name) {
			alike = i
		}
	}
	return alike
}

// Keys are an object's member names in order.
func (v *Value) Keys() []string {
	if v.Kind() != Object {
		return nil
	}
	v.unfold()
	return v.keys
}

// Items are an array's items or an object's values in order.
func (v *Value) Items() []*Value {
	if v.Len() == 0 {
		return nil
	}
	return v.items
}

// Set gives an object's member a value: a *Value or anything that encoding/json can encode (what it cannot becomes null).
func (v *Value) Set(name string, val any) {
	if v.Kind() != Object {
		return
	}
	v.unfold()
	n, err := Of(val)
	if err != nil {
		n = &Value{raw: []byte("null"), kind: Null}
	}
	if i := v.index(name); i >= 0 {
		v.keys[i], v.items[i] = name, n
		return
	}
	v.put(name, n)
}

// put appends a member.
func (v *Value) put(name string, n *Value) {
	v.note(name)
	v.keys = append(v.keys, name)
	v.items = append(v.items, n)
}

// Add appends a member even where one of another letter case stands: for documents that spelled a key in two ways.
func (v *Value) Add(name string, val any) {
	if v.Kind() != Object {
		return
	}
	v.unfold()
	n, err := Of(val)
	if err != nil {
		n = &Value{raw: []byte("null"), kind: Null}
	}
	v.put(name, n)
}

// Default sets a member that is missing.
func (v *Value) Default(name string, val any) {
	if v.Kind() == Object && !v.Has(name) {
		v.Set(name, val)
	}
}

// Delete removes members.
func (v *Value) Delete(names ...string) {
	if v.Kind() != Object {
		return
	}
	for _, name := range names {
		for i := v.index(name); i >= 0; i = v.index(name) {
			v.keys = append(v.keys[:i], v.keys[i+1:]...)
			v.items = append(v.items[:i], v.items[i+1:]...)
		}
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
	if v == nil {
		return append(b, "null"...)
	}
	if !v.open {
		return append(b, v.raw...)
	}
	brackets := "[]"
	if v.kind == Object {
		brackets = "{}"
	}
	b = append(b, brackets[0])
	for i, it := range v.items {
		if i > 0 {
			b = append(b, ',')
		}
		if v.kind == Object {
			b = appendQuoted(b, v.keys[i])
			b = append(b, ':')
		}
		b = it.AppendTo(b)
	}
	return append(b, brackets[1])
}
