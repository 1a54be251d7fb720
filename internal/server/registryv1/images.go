package registryv1

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"longshore/internal/core/fault"
	"longshore/internal/core/imagev1"
	"longshore/internal/server/stream"
	"longshore/internal/server/wirev1"
)

// errCut is an answer that failed after it had begun: only a broken connection can tell.
var errCut = errors.New("answer cut off")

// forever is how long clients may keep what never changes, in seconds.
const forever = "31536000"

// lasting sets the headers of images, which never change. Who may have one may not pass it on to others.
func (x *exchange) lasting() {
	h := x.Header()
	h.Set("Cache-Control", "private, max-age="+forever)
	h.Set("Last-Modified", "Thu, 01 Jan 1970 00:00:00 GMT")
	h.Del("Expires")
}

// unmodified answers 304 to whoever has seen the image: it cannot have changed.
func (x *exchange) unmodified() bool {
	if x.r.Header.Get("If-Modified-Since") == "" {
		return false
	}
	x.lasting()
	wirev1.Common(x)
	x.WriteHeader(http.StatusNotModified)
	return true
}

func getJSON(x *exchange) error {
	j, err := x.svc.JSON(x.r.Context(), x.caller(), x.id)
	if err != nil {
		return err
	}
	if x.unmodified() {
		return nil
	}
	h := x.Header()
	if j.Size >= 0 {
		h.Set("X-Docker-Size", strconv.FormatInt(j.Size, 10))
	}
	if sum, err := imagev1.ParseChecksum(j.Payload); err == nil {
		h.Set("X-Docker-Checksum", sum.Hex)
		h.Set("X-Docker-Checksum-Payload", sum.String())
	}
	x.lasting()
	wirev1.Raw(x, http.StatusOK, j.Document)
	return nil
}

func putJSON(x *exchange) error {
	data, err := io.ReadAll(io.LimitReader(stream.NewBody(x, x.r.Body), imagev1.MaxJSON+1))
	if err != nil {
		return fault.Invalid("The body ended early: %w", err)
	}
	if err := x.svc.PutJSON(x.r.Context(), x.caller(), x.id, data, x.r.Header.Get("X-Docker-Checksum")); err != nil {
		return err
	}
	return done(x)
}

// done is the answer to what has nothing to tell.
func done(x *exchange) error {
	wirev1.JSON(x, http.StatusOK, "")
	return nil
}

func getAncestry(x *exchange) error {
	list, err := x.svc.Ancestry(x.r.Context(), x.caller(), x.id)
	if err != nil {
		return err
	}
	if x.unmodified() {
		return nil
	}
	x.lasting()
	wirev1.JSON(x, http.StatusOK, list)
	return nil
}

// putAncestry takes what the index's specification lets clients send. The documents say it already: it must agree.
func putAncestry(x *exchange) error {
	data, err := wirev1.Body(x, x.r)
	if err != nil {
		return err
	}
	var told []imagev1.ID
	if err := json.Unmarshal(data, &told); err != nil {
		return fault.Invalid("Invalid JSON")
	}
	if err := x.svc.CheckAncestry(x.r.Context(), x.caller(), x.id, told); err != nil {
		return err
	}
	return done(x)
}

func getLayer(x *exchange) error {
	l, err := x.svc.Layer(x.r.Context(), x.caller(), x.id)
	if err != nil {
		return err
	}
	defer l.Close()
	if x.unmodified() {
		return nil
	}
	x.lasting()
	wirev1.Common(x)
	h := x.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Etag", `"`+l.ETag+`"`)
	if l.Content == nil {
		return x.stream(l.Stream)
	}
	var src io.ReadSeeker = l.Content
	if l.Content.File != nil {
		src = l.Content.File // the kernel sends it
	}
	h.Del("Last-Modified") // ranges go by the tag
	wirev1.Bound(x, l.Content.Size)
	http.ServeContent(x.ResponseWriter, x.r, "", time.Time{}, src)
	return nil
}

// stream sends what is unpacked on the way.
func (x *exchange) stream(r io.Reader) error {
	x.WriteHeader(http.StatusOK)
	if x.r.Method == http.MethodHead {
		return nil
	}
	if _, err := io.Copy(x.ResponseWriter, r); err != nil {
		return fmt.Errorf("%w: %w", errCut, err)
	}
	return nil
}

func putLayer(x *exchange) error {
	err := x.svc.PutLayer(x.r.Context(), x.caller(), x.id, stream.NewBody(x, x.r.Body), announced(x.r))
	if err != nil {
		return err
	}
	return done(x)
}

// announced is the checksum that comes with a layer.
func announced(r *http.Request) string {
	if sum := r.Header.Get("X-Docker-Checksum-Payload"); sum != "" {
		return sum
	}
	return r.Header.Get("X-Docker-Checksum")
}

func putChecksum(x *exchange) error {
	h := x.r.Header
	err := x.svc.PutChecksum(x.r.Context(), x.caller(), x.id, h.Get("X-Docker-Checksum-Payload"), h.Get("X-Docker-Checksum"))
	if err != nil {
		return err
	}
	return done(x)
}

// getFiles lists a layer's entries while it is read.
func getFiles(x *exchange) error {
	out := bufio.NewWriterSize(x.ResponseWriter, 32<<10)
	begun := false
	begin := func() {
		x.lasting()
		wirev1.Common(x)
		x.Header().Set("Content-Type", "application/json")
		x.WriteHeader(http.StatusOK)
		begun = true
	}
	err := x.svc.Files(x.r.Context(), x.caller(), x.id, func(f imagev1.File) error {
		lead := ","
		if !begun {
			begin()
			lead = "["
		}
		line, err := json.Marshal(f)
		if err == nil {
			_, err = out.WriteString(lead)
		}
		if err == nil {
			_, err = out.Write(line)
		}
		return err
	})
	switch {
	case err != nil && begun:
		return fmt.Errorf("%w: %w", errCut, err)
	case err != nil:
		return err
	case !begun:
		x.lasting()
		wirev1.JSON(x, http.StatusOK, []string{})
		return nil
	}
	_ = out.WriteByte(']')
	_ = out.Flush() // a client that has gone needs no answer
	return nil
}

func getDiff(x *exchange) error {
	d, err := x.svc.Diff(x.r.Context(), x.caller(), x.id)
	if err != nil {
		return err
	}
	x.lasting()
	wirev1.JSON(x, http.StatusOK, d)
	return nil
}

// maxTag bounds the body that names an image.
const maxTag = 1024

// imageName reads the body of a tag: a JSON string, or the bare name that some clients sent.
func imageName(r io.Reader) (imagev1.ID, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxTag+1))
	if err != nil || len(data) > maxTag {
		return "", fault.Invalid("Invalid data")
	}
	var name string
	if json.Unmarshal(data, &name) != nil {
		return "", fault.Invalid("Invalid data")
	}
	id, err := imagev1.ParseID(name)
	if err != nil {
		return "", fault.Invalid("Invalid data")
	}
	return id, nil
}
