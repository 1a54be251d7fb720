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
	if l := reflect.ValueOf(v); listOfObjects(l) {
		if parts := min(runtime.GOMAXPROCS(0), l.Len()/alone); parts > 1 {
			return encodeParts(w, l, parts)
		}
	}
	return encode(w, v)
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

// encodeParts encodes as many runs of a list at once. The texts of the later ones are joined to the first's.
func encodeParts(w *bytes.Buffer, list reflect.Value, parts int) error {
	bufs, errs := make([]*bytes.Buffer, parts), make([]error, parts)
	var others sync.WaitGroup
	run := func(i int) {
		errs[i] = encode(bufs[i], list.Slice(i*list.Len()/parts, (i+1)*list.Len()/parts).Interface())
	}
	bufs[0] = w
	for i := 1; i < parts; i++ {
		bufs[i] = buffers.Get().(*bytes.Buffer)
		defer giveBack(bufs[i])
		others.Go(func() { run(i) })
	}
	run(0)
	others.Wait()
	for i, b := range bufs {
		if errs[i] != nil {
			return errs[i]
		}
		if i > 0 { // "[…]\n" and "[…]\n" become "[…,…]\n"
			w.Truncate(w.Len() - len("]\n"))
			w.WriteByte(',')
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
