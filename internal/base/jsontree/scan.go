package jsontree

import (
	"bytes"
	"encoding/json"
	"slices"
	"unsafe"
)

// unfold opens an object or array one level deep. The text is valid JSON: Parse checked it.
func (v *Value) unfold() {
	if v.open || (v.kind != Object && v.kind != Array) {
		return
	}
	b := v.raw
	v.open, v.raw, v.members = true, nil, &members{}
	var slab []Value // items are allocated by the handful
	i := skipSpace(b, 1)
	for b[i] != '}' && b[i] != ']' {
		if v.kind == Object {
			end := skipString(b, i)
			key := unquote(b[i:end])
			v.note(key)
			v.keys = append(v.keys, key)
			i = skipSpace(b, skipSpace(b, end)+1) // over the colon
		}
		end := skipValue(b, i)
		if len(slab) == cap(slab) {
			slab = make([]Value, 0, min(4+(len(b)-i)/perMember, 40))
			v.grow(cap(slab))
		}
		slab = append(slab, Value{raw: b[i:end:end], kind: kindOf(b[i])})
		v.items = append(v.items, &slab[len(slab)-1])
		i = skipSpace(b, end)
		if b[i] == ',' {
			i = skipSpace(b, i+1)
		}
	}
}

// perMember is how many bytes a member of an object has more or less, to make room for all of them at once.
const perMember = 36

// grow makes room for n more items.
func (v *Value) grow(n int) {
	v.items = slices.Grow(v.items, n)
	if v.kind == Object {
		v.keys = slices.Grow(v.keys, n)
	}
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// skipString answers the index behind the string that starts at i.
func skipString(b []byte, i int) int {
	for i++; ; i++ {
		n := bytes.IndexByte(b[i:], '"')
		i += n
		back := 0
		for b[i-1-back] == '\\' {
			back++
		}
		if back%2 == 0 {
			return i + 1
		}
	}
}

// skipValue answers the index behind the value that starts at i.
func skipValue(b []byte, i int) int {
	switch b[i] {
	case '"':
		return skipString(b, i)
	case '{', '[':
		return skipNested(b, i)
	}
	for i < len(b) && b[i] != ',' && b[i] != '}' && b[i] != ']' && b[i] > ' ' {
		i++
	}
	return i
}

func skipNested(b []byte, i int) int {
	depth := 0
	for {
		for !structural[b[i]] {
			i++
		}
		switch b[i] {
		case '"':
			i = skipString(b, i)
			continue
		case '{', '[':
			depth++
		case '}', ']':
			depth--
			if depth == 0 {
				return i + 1
			}
		}
		i++
	}
}

// structural are the bytes that skipNested stops at.
var structural = [256]bool{'"': true, '{': true, '}': true, '[': true, ']': true}

func unquote(b []byte) string {
	inner := b[1 : len(b)-1]
	if bytes.IndexByte(inner, '\\') < 0 && valid(inner) {
		return view(inner)
	}
	var s string
	_ = json.Unmarshal(b, &s) // valid by construction
	return s
}

// view is a string over the bytes: a Value never changes its text, and nobody else has it.
func view(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	return unsafe.String(&b[0], len(b))
}

// valid: plain ASCII needs no replacement of broken UTF-8.
func valid(b []byte) bool {
	for _, c := range b {
		if c >= 0x80 {
			return false
		}
	}
	return true
}

func appendQuoted(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= 0x7f {
			q, _ := json.Marshal(s) // a string always encodes
			return append(b, q...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}
