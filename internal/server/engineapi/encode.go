package engineapi

import (
	"bytes"
	"encoding/json"
	"io"
	"reflect"
	"runtime"
	"sync"

	"longshore/internal/server/route"
)

// alone is how many elements of a list one processor encodes before it is worth while to ask another one.
const alone = 64

// encode writes one document and a newline. What the ladder has encoded already goes out as it is.
func encode(w io.Writer, v any) error {
	if b, ok := v.(route.Encoded); ok {
		_, err := w.Write(append(b, '\n'))
		return err
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// encodeAnswer is encode for a whole answer: long lists, as of a thousand containers, are encoded by all processors.
func encodeAnswer(w *bytes.Buffer, v any) error {
	if l, ok := v.(route.List); ok {
		return encodeKept(w, l)
	}
	if l := reflect.ValueOf(v); listOfObjects(l) {
		if parts := parts(l.Len()); parts > 1 {
			return encodeParts(w, parts, func(w *bytes.Buffer, i int) error {
				return encode(w, l.Slice(i*l.Len()/parts, (i+1)*l.Len()/parts).Interface())
			})
		}
	}
	return encode(w, v)
}

// parts is by how many processors n elements are encoded.
func parts(n int) int { return min(runtime.GOMAXPROCS(0), n/alone) }

// encodeKept is encodeAnswer for a list most of whose elements, but not always, have kept their texts.
func encodeKept(w *bytes.Buffer, l route.List) error {
	fresh := 0
	for _, e := range l.Elements {
		if !e.Kept(l.Edit) {
			fresh++
		}
	}
	if parts := parts(fresh); parts > 1 {
		all := l.Elements
		return encodeParts(w, parts, func(w *bytes.Buffer, i int) error {
			return appendList(w, route.List{Elements: all[i*len(all)/parts : (i+1)*len(all)/parts], Edit: l.Edit})
		})
	}
	return appendList(w, l)
}

func appendList(w *bytes.Buffer, l route.List) error {
	text, err := l.AppendTo(w.AvailableBuffer())
	if err != nil {
		return err
	}
	w.Write(text)
	w.WriteByte('\n')
	return nil
}

// listOfObjects says whether a value is a plain slice of what becomes JSON objects, so that its parts' texts joined are the
// whole's text.
func listOfObjects(v reflect.Value) bool {
	if v.Kind() != reflect.Slice || v.Type().Name() != "" {
		return false
	}
	e := v.Type().Elem()
	return e.Kind() == reflect.Struct || e.Kind() == reflect.Pointer && e.Elem().Kind() == reflect.Struct
}

// encodeParts encodes as many runs of a list at once; part writes one of them as a list of its own. The texts of the later
// ones are joined to the first's.
func encodeParts(w *bytes.Buffer, parts int, part func(w *bytes.Buffer, i int) error) error {
	bufs, errs := make([]*bytes.Buffer, parts), make([]error, parts)
	var others sync.WaitGroup
	bufs[0] = w
	for i := 1; i < parts; i++ {
		bufs[i] = buffers.Get().(*bytes.Buffer)
		defer giveBack(bufs[i])
		others.Go(func() { errs[i] = part(bufs[i], i) })
	}
	errs[0] = part(w, 0)
	others.Wait()
	for i, b := range bufs {
		if errs[i] != nil {
			return errs[i]
		}
		if i > 0 && b.Len() > len("[]\n") { // "[…]\n" and "[…]\n" become "[…,…]\n"
			w.Truncate(w.Len() - len("]\n"))
			if w.Len() > len("[") {
				w.WriteByte(',')
			}
			w.Write(b.Bytes()[len("["):])
		}
	}
	return nil
}

// giveBack keeps a buffer for the next answer, unless it has become too large to be kept for nothing.
func giveBack(b *bytes.Buffer) {
	if b.Cap() <= 4<<20 {
		b.Reset()
		buffers.Put(b)
	}
}
