package jsontree

import "strings"

// members are the content of an opened object or array. Those of an object stay text, too: a Value is made of the ones
// that somebody asks for, and members that follow each other in the text are written as one piece.
type members struct {
	items []*Value // of an array; of an object, what was asked for

	src   []byte    // the text of the object
	more  []byte    // the text of members that were set, a comma before each
	list  []member  // in order
	count int       // of those in list that are not gone
	seen  [4]uint64 // a filter of the names in list, and perhaps of more: what is not in it is missing

	slab       []Value // room for Values
	firstSlab  [3]Value
	firstItems [4]*Value
}

// member is one member of an object, without pointers, which the collector need not follow. Its places are indices of
// src, and those of more behind the end of src.
type member struct {
	key, colon uint32 // where the name begins and ends, with its quotes
	value, end uint32 // where the value begins and ends; 0, 0 where only items has it
	asked      int32  // its Value's index in items, from 1
	hash       uint8  // the end of the name's sketch
	odd        bool   // the name is written with escapes or beyond ASCII
	gone       bool   // it was deleted
}

// text is the text between two places that lie in the same buffer.
func (m *members) text(from, to uint32) []byte {
	if n := uint32(len(m.src)); from >= n {
		return m.more[from-n : to-n : to-n]
	}
	return m.src[from:to:to]
}

func (m *members) name(i int) string { return m.nameOf(&m.list[i]) }

func (m *members) nameOf(e *member) string {
	quoted := m.text(e.key, e.colon)
	if e.odd {
		return unquote(quoted)
	}
	return view(quoted[1 : len(quoted)-1])
}

// value makes a Value of a member.
func (m *members) value(i int) *Value {
	e := &m.list[i]
	if e.asked == 0 {
		raw := m.text(e.value, e.end)
		m.ask(e, m.add(Value{raw: raw, kind: kindOf(raw[0])}))
	}
	return m.items[e.asked-1]
}

// add gives a Value a place.
func (m *members) add(v Value) *Value {
	if len(m.slab) == cap(m.slab) {
		m.slab = make([]Value, 0, 6)
	}
	m.slab = append(m.slab, v)
	return &m.slab[len(m.slab)-1]
}

// ask notes the Value of a member.
func (m *members) ask(e *member, v *Value) {
	m.items = append(m.items, v)
	e.asked = int32(len(m.items))
}

// opened tells whether the value of a member may differ from its text.
func (m *members) opened(e *member) bool {
	return e.end == 0 || (e.asked > 0 && m.items[e.asked-1].open)
}

// find answers the index of a name that is not empty, -1 if it is missing.
func (m *members) find(name string) int {
	h := sketch(name)
	if m.seen[h>>6&3]&(1<<(h&63)) == 0 {
		return -1
	}
	second := -1
	for i := len(m.list) - 1; i >= 0; i-- {
		e := &m.list[i]
		if e.hash != uint8(h) || e.gone {
			continue
		}
		k := m.name(i)
		if k == name {
			return i
		}
		if second < 0 && alike(k, name) {
			second = i
		}
	}
	return second
}

// drop deletes the members of a name that is not empty.
func (m *members) drop(name string) {
	h := sketch(name)
	if name == "" || m.seen[h>>6&3]&(1<<(h&63)) == 0 {
		return
	}
	for i := range m.list {
		if e := &m.list[i]; e.hash == uint8(h) && !e.gone && alike(m.nameOf(e), name) {
			*e = member{gone: true}
			m.count--
		}
	}
}

// alike tells whether two names differ in letters' case at most.
func alike(a, b string) bool {
	return a == b || (len(a) == len(b) && (a[0]^b[0])&^0x20 == 0 && strings.EqualFold(a, b))
}

// put appends a member.
func (m *members) put(name string, e member) {
	e.hash = m.note(name)
	m.list = append(m.list, e)
	m.count++
}

// note adds a name to the filter.
func (m *members) note(name string) (hash uint8) {
	h := sketch(name)
	m.seen[h>>6&3] |= 1 << (h & 63)
	return uint8(h)
}

// write makes a member of a name and a value.
func (m *members) write(name string, val any) member {
	if m.more == nil {
		m.more = make([]byte, 0, 176)
	}
	n := uint32(len(m.src))
	m.more = append(m.more, ',')
	e := member{key: n + uint32(len(m.more))}
	m.more = appendQuoted(m.more, name)
	e.colon = n + uint32(len(m.more))
	e.odd = int(e.colon-e.key) != len(name)+2 || !valid(m.more[e.key-n:])
	m.more = append(m.more, ':')
	if v, ok := val.(*Value); ok {
		if v == nil {
			v = &Value{raw: []byte("null"), kind: Null}
		}
		m.ask(&e, v)
		return e
	}
	e.value = n + uint32(len(m.more))
	text, err := encode(m.more, val)
	if err != nil {
		text = append(m.more, "null"...)
	}
	m.more = text
	e.end = n + uint32(len(m.more))
	return e
}

// appendTo appends the object's text: members whose text stands together in one piece.
func (m *members) appendTo(b []byte) []byte {
	b = append(b, '{')
	empty := len(b)
	var from, to uint32 // the piece that has not been written yet
	for i := range m.list {
		e := &m.list[i]
		if e.gone {
			continue
		}
		asIs := e.value == e.colon+1 && !e.odd && !m.opened(e)
		if asIs && to > 0 && e.key == to+1 {
			to = e.end
			continue
		}
		if to > 0 {
			b = append(b, m.text(from, to)...)
			from, to = 0, 0
		}
		if len(b) > empty {
			b = append(b, ',')
		}
		if asIs {
			from, to = e.key, e.end
			continue
		}
		b = appendQuoted(b, m.name(i))
		b = append(b, ':')
		if m.opened(e) {
			b = m.items[e.asked-1].AppendTo(b)
		} else {
			b = append(b, m.text(e.value, e.end)...)
		}
	}
	if to > 0 {
		b = append(b, m.text(from, to)...)
	}
	return append(b, '}')
}

// sketch is a hash that letters' case does not change.
func sketch(name string) uint {
	if name == "" {
		return 0
	}
	first, middle, last := uint(name[0]|0x20), uint(name[len(name)/2]|0x20), uint(name[len(name)-1]|0x20)
	return first*7 + middle*29 + last*53 + uint(len(name))*11
}
