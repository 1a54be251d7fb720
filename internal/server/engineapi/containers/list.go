package containers

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"slices"
	"strings"

	"longshore/internal/server/route"
	"longshore/internal/service/engine/containers"
	"longshore/internal/service/engine/containers/listing"
)

func (h *handlers) list(ctx context.Context, r *route.Request) (route.Response, error) {
	f, err := r.Filters()
	if err != nil {
		return nil, err
	}
	limit, err := r.Int("limit", 0)
	if err != nil {
		return nil, err
	}
	size := r.Bool("size")
	items, err := h.svc.List(ctx, containers.ListRequest{All: r.Bool("all"), Limit: limit, Size: size, Filters: f})
	if err != nil {
		return nil, err
	}
	if size { // which is another one each time
		return route.JSON{Body: listing.Summaries(items)}, nil
	}
	list := route.List{Elements: make([]route.Element, len(items))}
	own := make([]element, len(items))
	for i := range items {
		own[i] = element{item: &items[i], mark: h.mark}
		list.Elements[i] = &own[i]
	}
	return route.JSON{Body: list}, nil
}

// element is a container of a list. Its text is kept beside the container's snapshot, all but the status, which time alone
// changes.
type element struct {
	item *listing.Item
	mark string
}

// keptTexts is how many texts of one snapshot are kept at most: for as many versions of clients.
const keptTexts = 4

// text is what was made of a snapshot. Never changed.
type text struct {
	edit    *route.Edit
	image   string
	aliases []string
	// head and tail stand around the status. Both are empty where the version has no such element.
	head, tail []byte
}

// newMark is a status that no container has, and nobody can give anything of one.
func newMark() string { return "status " + rand.Text() }

// kept are the texts beside the snapshot, the newest first; the list is never changed either.
func (e *element) kept() []text {
	list, _ := e.item.Kept.Load().([]text)
	return list
}

func (e *element) find(edit *route.Edit) *text {
	list := e.kept()
	for i := range list {
		if t := &list[i]; t.edit == edit && t.image == e.item.Image && slices.Equal(t.aliases, e.item.Aliases) {
			return t
		}
	}
	return nil
}

// Kept implements route.Element.
func (e *element) Kept(edit *route.Edit) bool { return e.find(edit) != nil }

// AppendText implements route.Element.
func (e *element) AppendText(b []byte, edit *route.Edit) ([]byte, error) {
	t := e.find(edit)
	if t == nil {
		doc, err := e.encode(edit, e.mark)
		if err != nil {
			return nil, err
		}
		head, tail, found := bytes.Cut(doc, []byte(`"`+e.mark+`"`))
		if !found && len(doc) > 0 || bytes.Contains(tail, []byte(e.mark)) { // an edit has done something to it
			doc, err = e.encode(edit, e.item.Status)
			return append(b, doc...), err
		}
		t = e.keep(text{edit: edit, image: e.item.Image, aliases: e.item.Aliases, head: head, tail: tail})
	}
	if len(t.head) == 0 {
		return b, nil
	}
	b = appendSentence(append(b, t.head...), e.item.Status)
	return append(b, t.tail...), nil
}

// appendSentence appends a JSON string. Sentences are letters, digits and parentheses, which need no encoder.
func appendSentence(b []byte, s string) []byte {
	if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' || r == '"' || r == '\\' }) {
		text, _ := json.Marshal(s) // strings always can
		return append(b, text...)
	}
	return append(append(append(b, '"'), s...), '"')
}

// encode makes the text with a status.
func (e *element) encode(edit *route.Edit, status string) ([]byte, error) {
	sum := e.item.Summary()
	sum.Status = status
	if edit != nil {
		return edit.Text(sum)
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	err := enc.Encode(sum)
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), err
}

// keep puts a text before the others. Of several at the same time one stays; the rest is encoded anew another time.
func (e *element) keep(t text) *text {
	t.head, t.tail = bytes.Clone(t.head), bytes.Clone(t.tail)
	list := append(make([]text, 0, keptTexts), t)
	for _, old := range e.kept() {
		if old.edit != t.edit && len(list) < keptTexts {
			list = append(list, old)
		}
	}
	e.item.Kept.Store(list)
	return &list[0]
}
