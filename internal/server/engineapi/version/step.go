package version

import (
	"context"
	"fmt"
	"io"
	"slices"

	"longshore/internal/base/jsontree"
	"longshore/internal/core/fault"
	"longshore/internal/server/route"
)

// Step is all that stands between one version and the newest for one operation.
type Step struct {
	changes                             []*Change   // oldest rung first
	lifts, lowers, each, replies, fails []*Change   // the same by what they do; all but lifts newest first
	edit                                *route.Edit // the lowers, where all are of items; else nil
}

func (s *Step) settle() {
	for _, c := range s.changes {
		if c.Lift != nil {
			s.lifts = append(s.lifts, c)
		}
	}
	for _, c := range slices.Backward(s.changes) {
		if c.Lower != nil || c.LowerEach != nil || c.Omit != nil {
			s.lowers = append(s.lowers, c)
		}
		if c.LowerEach != nil || c.Omit != nil {
			s.each = append(s.each, c)
		}
		if c.Reply != nil {
			s.replies = append(s.replies, c)
		}
		if c.Error != nil {
			s.fails = append(s.fails, c)
		}
	}
	if !slices.ContainsFunc(s.lowers, func(c *Change) bool { return c.Lower != nil }) {
		s.edit = &route.Edit{Text: s.lowerText}
	}
}

// Lift takes a request up to the newest terms.
func (s *Step) Lift(r *route.Request) error {
	if len(s.lifts) == 0 {
		return nil
	}
	q := &Request{Request: r}
	for _, c := range s.lifts {
		if err := c.Lift(q); err != nil {
			return err
		}
	}
	return q.finish()
}

// Lower takes a response down to the version's terms.
func (s *Step) Lower(r *route.Request, resp route.Response) (route.Response, error) {
	var err error
	switch v := resp.(type) {
	case route.JSON:
		if resp, err = s.lowerJSON(r, v); err != nil {
			return nil, err
		}
	case route.Lines:
		resp = s.lowerLines(r, v)
	}
	for _, c := range s.replies {
		if resp, err = c.Reply(r, resp); err != nil {
			return nil, err
		}
	}
	return s.late(r, resp), nil
}

// late takes errors down that a response meets after it was returned but before its first byte.
func (s *Step) late(r *route.Request, resp route.Response) route.Response {
	if len(s.fails) == 0 {
		return resp
	}
	switch v := resp.(type) {
	case route.Lines:
		run := v.Run
		v.Run = func(ctx context.Context, emit func(any) error) error {
			begun := v.Early
			err := run(ctx, func(obj any) error {
				begun = true
				return emit(obj)
			})
			return s.failUnless(begun, r, err)
		}
		return v
	case route.Raw:
		run := v.Run
		v.Run = func(ctx context.Context, w io.Writer) error {
			c := &counter{w: w, begun: v.Early}
			err := run(ctx, c)
			return s.failUnless(c.begun, r, err)
		}
		return v
	case route.Hijack:
		if prepare := v.Prepare; prepare != nil {
			v.Prepare = func(ctx context.Context) error { return s.failUnless(false, r, prepare(ctx)) }
		}
		return v
	}
	return resp
}

func (s *Step) failUnless(begun bool, r *route.Request, err error) error {
	if begun || err == nil {
		return err
	}
	return s.Fail(r, err)
}

// counter notes whether anything was written.
type counter struct {
	w     io.Writer
	begun bool
}

func (c *counter) Write(p []byte) (int, error) {
	c.begun = c.begun || len(p) > 0
	return c.w.Write(p)
}

// Fail takes an error down.
func (s *Step) Fail(r *route.Request, err error) error {
	for _, c := range s.fails {
		err = c.Error(r, err)
	}
	return err
}

func (s *Step) lowerJSON(r *route.Request, v route.JSON) (route.Response, error) {
	if len(s.lowers) == 0 {
		return v, nil
	}
	if l, ok := v.Body.(route.List); ok && s.edit != nil {
		l.Edit = s.edit
		v.Body = l
		return v, nil
	}
	out, err := jsontree.Edit(v.Body, opened, func(body *jsontree.Value) {
		view := &View{Body: body, Typed: v.Body, Request: r}
		for _, c := range s.lowers {
			if c.Lower != nil {
				c.Lower(view)
			}
			if body.Kind() == jsontree.Array {
				c.lowerItems(r, body)
			}
		}
	})
	if err != nil {
		return nil, fmt.Errorf("encode answer: %w", err)
	}
	v.Body = route.Encoded(out)
	return v, nil
}

// lowerText takes one item of a list down, for any request; nil when the version does not have it.
func (s *Step) lowerText(v any) ([]byte, error) {
	omitted := false
	text, err := jsontree.Edit(v, opened, func(body *jsontree.Value) {
		view := &View{Body: body}
		omitted = slices.ContainsFunc(s.each, func(c *Change) bool { return !c.lowerItem(view) })
	})
	if err != nil || omitted {
		return nil, err
	}
	return text, nil
}

// opened are the members of large answers that rungs look into at nearly every version.
var opened = []string{"HostConfig", "Config", "NetworkSettings", "Networks"}

// lowerItems lowers a list's items and leaves out those that the version does not have.
func (c *Change) lowerItems(r *route.Request, list *jsontree.Value) {
	if c.LowerEach == nil && c.Omit == nil {
		return
	}
	items := list.Items()
	kept := items[:0]
	for _, item := range items {
		if c.lowerItem(&View{Body: item, Request: r}) {
			kept = append(kept, item)
		}
	}
	list.SetItems(kept)
}

// lowerItem answers false for an item that the version does not have.
func (c *Change) lowerItem(v *View) bool {
	if c.Omit != nil && c.Omit(v) {
		return false
	}
	if c.LowerEach != nil {
		c.LowerEach(v)
	}
	return true
}

func (s *Step) lowerLines(r *route.Request, v route.Lines) route.Response {
	if len(s.each) == 0 {
		return v
	}
	run := v.Run
	v.Run = func(ctx context.Context, emit func(any) error) error {
		return run(ctx, func(obj any) error {
			body, err := jsontree.Of(obj)
			if err != nil {
				return fmt.Errorf("encode line: %w", err)
			}
			view := &View{Body: body, Typed: obj, Request: r}
			for _, c := range s.each {
				if !c.lowerItem(view) {
					return nil
				}
			}
			return emit(body)
		})
	}
	return v
}

// Request is a client's request on its way up. The JSON body is read and parsed once, when the first Lift asks for it.
type Request struct {
	*route.Request
	body   *jsontree.Value
	parsed bool
	edited bool
}

// JSON is the request's JSON object, for editing in place. A body that is missing is an empty object; one that is no
// JSON object stays untouched for the handler to refuse, and edits of what is returned are dropped.
func (r *Request) JSON() (*jsontree.Value, error) {
	if r.parsed {
		return r.body, nil
	}
	r.parsed = true
	var doc []byte
	if src := r.Payload(); src != nil {
		var err error
		if doc, err = io.ReadAll(io.LimitReader(src, route.MaxBody+1)); err != nil {
			return nil, fault.Invalid("read request body: %v", err)
		}
	}
	if len(doc) > route.MaxBody {
		return nil, fault.Invalid("request body is larger than %d bytes", route.MaxBody)
	}
	if len(doc) == 0 {
		r.body, _ = jsontree.Parse([]byte("{}"))
		r.replace(nil)
		return r.body, nil
	}
	v, err := jsontree.Parse(doc)
	if err != nil || v.Kind() != jsontree.Object {
		r.replace(doc)
		return nil, nil
	}
	r.body, r.edited = v, true
	return v, nil
}

// SetJSON replaces the body.
func (r *Request) SetJSON(v *jsontree.Value) { r.parsed, r.edited, r.body = true, true, v }

// finish hands the edited body to the handler.
func (r *Request) finish() error {
	if r.body == nil || (!r.edited && r.body.Len() == 0) {
		return nil
	}
	doc := r.body.AppendTo(nil)
	r.replace(doc)
	r.HTTP.Header.Set("Content-Type", "application/json")
	return nil
}

func (r *Request) replace(doc []byte) { r.SetBody(doc) }
