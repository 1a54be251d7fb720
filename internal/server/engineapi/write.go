package engineapi

import (
	"bytes"
	"context"
	"io"
	"maps"
	"net/http"
	"runtime/debug"
	"strconv"
	"sync"

	"longshore/internal/server/route"
	"longshore/internal/server/stream"
)

func stack() string { return string(debug.Stack()) }

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// write sends what a handler returned.
func (s *Server) write(ctx context.Context, w http.ResponseWriter, r *route.Request, resp route.Response) {
	switch v := resp.(type) {
	case route.JSON:
		s.writeJSON(w, r, v)
	case route.Empty:
		maps.Copy(w.Header(), v.Header)
		w.WriteHeader(orStatus(v.Status, http.StatusNoContent))
	case route.Lines:
		s.writeLines(ctx, w, r, v)
	case route.Raw:
		s.writeRaw(ctx, w, r, v)
	case route.Hijack:
		s.hijack(ctx, w, r, v)
	case route.HTTP:
		v.Handler.ServeHTTP(w, r.HTTP)
	default:
		s.log.Error("handler returned no response", "path", r.HTTP.URL.Path)
		w.WriteHeader(http.StatusInternalServerError)
	}
}

func orStatus(status, def int) int {
	if status == 0 {
		return def
	}
	return status
}

func (s *Server) writeJSON(w http.ResponseWriter, r *route.Request, v route.JSON) {
	buf := buffers.Get().(*bytes.Buffer)
	defer giveBack(buf)
	if err := encodeAnswer(buf, v.Body); err != nil {
		s.fail(w, r.HTTP, r.Dialect, err)
		return
	}
	h := w.Header()
	maps.Copy(h, v.Header)
	if h.Get("Content-Type") == "" {
		h.Set("Content-Type", "application/json")
	}
	h.Set("Content-Length", strconv.Itoa(buf.Len()))
	w.WriteHeader(orStatus(v.Status, http.StatusOK))
	_, _ = w.Write(buf.Bytes())
}

// errorLine is docker's last object of a progress stream that failed.
type errorLine struct {
	Detail errorDetail `json:"errorDetail"`
	Error  string      `json:"error"`
}

type errorDetail struct {
	Code    int    `json:"code,omitempty"`
	Message string `json:"message"`
}

func (s *Server) writeLines(ctx context.Context, w http.ResponseWriter, r *route.Request, v route.Lines) {
	h := w.Header()
	maps.Copy(h, v.Header)
	if h.Get("Content-Type") == "" {
		h.Set("Content-Type", "application/json")
	}
	rc := http.NewResponseController(w)
	duplex(rc, r, v.Duplex)
	started := false
	start := func() {
		started = true
		w.WriteHeader(http.StatusOK)
	}
	if v.Early {
		start()
		_ = rc.Flush()
	}
	emit := func(obj any) error {
		if !started {
			start()
		}
		if err := encode(w, obj); err != nil {
			return err
		}
		return rc.Flush()
	}
	err := v.Run(ctx, emit)
	switch {
	case err == nil:
		if !started {
			start()
		}
	case !started:
		h.Del("Content-Type")
		s.fail(w, r.HTTP, r.Dialect, err)
	case v.ErrorLine:
		line := errorLine{Detail: errorDetail{Message: err.Error()}, Error: err.Error()}
		if c, ok := err.(interface{ ExitCode() int }); ok {
			line.Detail.Code = c.ExitCode()
		}
		_ = emit(line)
	}
}

// duplex lets a body come while the answer goes out, or reads it at once when nobody wants it.
func duplex(rc *http.ResponseController, r *route.Request, wanted bool) {
	if wanted {
		_ = rc.EnableFullDuplex()
	} else {
		drain(r.HTTP)
	}
}

func (s *Server) writeRaw(ctx context.Context, w http.ResponseWriter, r *route.Request, v route.Raw) {
	h := w.Header()
	maps.Copy(h, v.Header)
	if ct := v.ContentType; ct == multiplexedStream && r.Dialect.RawStreamType {
		h.Set("Content-Type", rawStream)
	} else if ct != "" {
		h.Set("Content-Type", ct)
	}
	rc := http.NewResponseController(w)
	duplex(rc, r, v.Duplex)
	lw := &lateWriter{w: w, status: orStatus(v.Status, http.StatusOK)}
	if v.Early {
		lw.start()
		_ = rc.Flush()
	}
	if r.HTTP.Method == http.MethodHead || v.Run == nil {
		lw.start()
		return
	}
	sw := stream.NewWriter(lw, rc.Flush)
	err := v.Run(ctx, sw)
	if cerr := sw.Close(); err == nil {
		err = cerr
	}
	switch {
	case err == nil:
		lw.start()
	case !lw.started:
		h.Del("Content-Type")
		s.fail(w, r.HTTP, r.Dialect, err)
	default:
		s.log.Debug("stream ended early", "path", r.HTTP.URL.Path, "error", err)
		if ctx.Err() == nil {
			panic(http.ErrAbortHandler) // the client must see that the body is not whole
		}
	}
}

// lateWriter sends the status with the first byte.
type lateWriter struct {
	w       http.ResponseWriter
	status  int
	started bool
}

func (l *lateWriter) start() {
	if !l.started {
		l.started = true
		l.w.WriteHeader(l.status)
	}
}

func (l *lateWriter) Write(p []byte) (int, error) {
	l.start()
	return l.w.Write(p)
}

var _ io.Writer = (*lateWriter)(nil)
