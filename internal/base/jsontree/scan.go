package jsontree

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math/bits"
	"slices"
	"unsafe"
)

// unfold opens an object or array one level deep, and with deep an array's objects and objects' members that are objects
// and named there, too. The text is valid JSON: Parse checked it.
func (v *Value) unfold(deep ...string) {
	if v.open || (v.kind != Object && v.kind != Array) {
		return
	}
	src := v.raw
	v.open, v.raw, v.members = true, nil, new(members)
	if v.kind == Array {
		v.scanArray(src, deep)
		return
	}
	v.scanObject(src, deep)
}

// scanObject reads the object that b begins with and answers its length.
func (m *members) scanObject(b []byte, deep []string) int {
	m.slab, m.items = m.firstSlab[:0], m.firstItems[:0]
	var room [80]member // most objects fit, and get a list of the right length then
	list := room[:0]
	i := skipSpace(b, 1)
	for b[i] != '}' {
		colon, odd := skipString(b, i)
		e := member{key: uint32(i), colon: uint32(colon), odd: odd}
		name := view(b[i+1 : colon-1])
		if odd {
			name = unquote(b[i:colon])
		}
		e.hash = m.note(name)
		i = skipSpace(b, skipSpace(b, colon)+1)
		e.value = uint32(i)
		if len(deep) > 0 && b[i] == '{' && slices.Contains(deep, name) {
			child := Value{kind: Object, open: true, members: new(members)}
			i += child.scanObject(b[i:], deep)
			m.ask(&e, m.add(child))
		} else {
			i = skipValue(b, i)
		}
		e.end = uint32(i)
		list = append(list, e)
		if i = skipSpace(b, i); b[i] == ',' {
			i = skipSpace(b, i+1)
		}
	}
	m.src = b[: i+1 : i+1]
	m.list = append(make([]member, 0, len(list)+spare), list...)
	m.count = len(list)
	return i + 1
}

// spare is how many members a rung adds to an object, more or less.
const spare = 4

// scanArray reads the array that b begins with; items that are objects are opened if there is anything in deep.
func (m *members) scanArray(b []byte, deep []string) {
	var slab []Value // items are allocated by the handful
	for i := skipSpace(b, 1); b[i] != ']'; {
		begin, item := i, Value{kind: kindOf(b[i])}
		if len(deep) > 0 && item.kind == Object {
			item.open, item.members = true, new(members)
			i += item.scanObject(b[i:], deep)
		} else {
			i = skipValue(b, i)
			item.raw = b[begin:i:i]
		}
		if len(slab) == cap(slab) {
			slab = make([]Value, 0, min(1+(len(b)-begin)/(i-begin+1), 40))
			m.items = slices.Grow(m.items, cap(slab))
		}
		slab = append(slab, item)
		m.items = append(m.items, &slab[len(slab)-1])
		if i = skipSpace(b, i); b[i] == ',' {
			i = skipSpace(b, i+1)
		}
	}
}

// skipSpace answers the index of the first byte at or behind i that is no white space; there always is one.
func skipSpace(b []byte, i int) int {
	for b[i] <= ' ' {
		i++
	}
	return i
}

// skipString answers the index behind the string that starts at i, and whether it is odd: has escapes or anything beyond
// ASCII.
func skipString(b []byte, i int) (end int, odd bool) {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	i++
	for i+8 <= len(b) { // eight bytes at a time: a lane's high bit is set where the byte is ", \ or beyond ASCII
		x := binary.LittleEndian.Uint64(b[i:])
		quote, back := x^('"'*ones), x^('\\'*ones)
		stops := ((quote-ones)&^quote | (back-ones)&^back | x) & highs
		if stops == 0 {
			i += 8
			continue
		}
		i += bits.TrailingZeros64(stops) / 8
		switch b[i] {
		case '"':
			return i + 1, odd
		case '\\':
			i++
		}
		i++
		odd = true
	}
	for ; b[i] != '"'; i++ {
		if b[i] == '\\' {
			i++
			odd = true
		}
		odd = odd || b[i] >= 0x80
	}
	return i + 1, odd
}

// skipValue answers the index behind the value that starts at i.
func skipValue(b []byte, i int) int {
	switch b[i] {
	case '"':
		i, _ = skipString(b, i)
		return i
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
			i, _ = skipString(b, i)
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
