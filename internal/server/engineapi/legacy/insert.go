package legacy

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/jsonstream"

	"longshore/internal/core/fault"
	"longshore/internal/server/route"
)

// maxInsert bounds the file that insert fetches, in bytes.
const maxInsert = 256 << 20

// insert puts a file from a URL into an image: a container of it gets the file and is committed. The new image keeps the
// old one's configuration and gets no name; its ID is the last status.
func (h *handlers) insert(ctx context.Context, r *route.Request) (route.Response, error) {
	from, at := r.Query.Get("url"), r.Query.Get("path")
	if from == "" || at == "" {
		return nil, fault.Invalid("bad parameter: url and path cannot be empty")
	}
	var base image.InspectResponse
	name := map[string]string{"name": r.Var("name")}
	if err := h.ask(ctx, call{key: "GET /images/{name...}/json", vars: name}, &base); err != nil {
		return nil, err
	}
	return route.Lines{ErrorLine: true, Run: func(ctx context.Context, emit func(any) error) error {
		if err := emit(jsonstream.Message{Status: "Inserting..."}); err != nil {
			return err
		}
		id, err := h.insertFile(ctx, &base, from, path.Join("/", at), emit)
		if err != nil {
			return err
		}
		return emit(jsonstream.Message{Status: id})
	}}, nil
}

func (h *handlers) insertFile(ctx context.Context, base *image.InspectResponse, from, at string, emit func(any) error) (string, error) {
	content, err := fetch(ctx, from, emit)
	if err != nil {
		return "", err
	}
	var made container.CreateResponse
	config := map[string]any{"Image": base.ID, "Cmd": []string{"echo", "insert", from, at}}
	if err := h.ask(ctx, call{key: "POST /containers/create", body: config}, &made); err != nil {
		return "", err
	}
	id := map[string]string{"id": made.ID}
	defer h.do(context.WithoutCancel(ctx), call{key: "DELETE /containers/{id}", vars: id, q: url.Values{"v": {"1"}}}) //nolint:errcheck // what stays is seen in the list
	if _, err := h.do(ctx, call{key: "HEAD /containers/{id}/archive", vars: id, q: url.Values{"path": {at}}}); err == nil {
		return "", fault.Conflict("%s exists", at)
	}
	doc, err := archive(strings.TrimPrefix(at, "/"), content)
	if err != nil {
		return "", err
	}
	if _, err := h.do(ctx, call{key: "PUT /containers/{id}/archive", vars: id, q: url.Values{"path": {"/"}}, body: doc}); err != nil {
		return "", err
	}
	var image container.CommitResponse
	q := url.Values{"container": {made.ID}, "comment": {base.Comment}, "author": {base.Author}, "pause": {"0"}}
	err = h.ask(ctx, call{key: "POST /commit", q: q, body: base.Config}, &image)
	return image.ID, err
}

// fetch downloads a file, telling how far it is.
func fetch(ctx context.Context, from string, emit func(any) error) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, fault.Invalid("invalid url: %v", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("download %s: %w", from, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 400 {
		return nil, fault.Internal("Got HTTP status code >= 400: %s", resp.Status)
	}
	p := &progress{total: resp.ContentLength, emit: emit}
	var content bytes.Buffer
	if _, err := io.Copy(io.MultiWriter(&content, p), io.LimitReader(resp.Body, maxInsert+1)); err != nil {
		return nil, fmt.Errorf("download %s: %w", from, err)
	}
	if content.Len() > maxInsert {
		return nil, fault.Invalid("%s is larger than %d bytes", from, maxInsert)
	}
	return content.Bytes(), p.tell()
}

// progress tells a download's state once a mebibyte.
type progress struct {
	done, told, total int64
	emit              func(any) error
}

// Write implements io.Writer.
func (p *progress) Write(b []byte) (int, error) {
	p.done += int64(len(b))
	if p.done-p.told < 1<<20 {
		return len(b), nil
	}
	return len(b), p.tell()
}

func (p *progress) tell() error {
	p.told = p.done
	return p.emit(jsonstream.Message{Status: "Inserting", Progress: &jsonstream.Progress{Current: p.done, Total: max(p.total, 0)}})
}

// archive holds one file.
func archive(name string, content []byte) (io.Reader, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), Typeflag: tar.TypeReg}); err != nil {
		return nil, err
	}
	if _, err := w.Write(content); err != nil {
		return nil, err
	}
	return &b, w.Close()
}
