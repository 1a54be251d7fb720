package route

// List is the body of a JSON response that is a list of objects which may keep their texts from one answer to the next.
type List struct {
	Elements []Element
	// Edit makes of the elements what the client's version shows; nil for the newest.
	Edit *Edit
}

// Element is one object of a List.
type Element interface {
	// AppendText appends the object's JSON text as an edit makes it, and nothing when the edit leaves the object out.
	AppendText(b []byte, e *Edit) ([]byte, error)
	// Kept tells whether AppendText has nothing to encode.
	Kept(e *Edit) bool
}

// Edit takes objects of a list down to a version's terms. What it makes of an object depends on nothing but the object, and
// may be kept under the edit's address.
type Edit struct {
	// Text answers the text of what a handler made; nil where the version has no such object.
	Text func(v any) ([]byte, error)
}

// AppendTo appends the text of the list.
func (l List) AppendTo(b []byte) ([]byte, error) {
	b = append(b, '[')
	begun := len(b)
	for _, e := range l.Elements {
		if len(b) > begun {
			b = append(b, ',')
		}
		before := len(b)
		var err error
		if b, err = e.AppendText(b, l.Edit); err != nil {
			return nil, err
		}
		if len(b) == before && before > begun {
			b = b[:before-1]
		}
	}
	return append(b, ']'), nil
}

// MarshalJSON implements json.Marshaler.
func (l List) MarshalJSON() ([]byte, error) { return l.AppendTo(nil) }
