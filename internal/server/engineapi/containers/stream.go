package containers

import (
	"context"
	"io"
	"strconv"
	"strings"
	"time"

	"longshore/internal/core/fault"
	"longshore/internal/server/route"
	"longshore/internal/service/engine/containers"
)

// contentType of a stream: framed unless the container has a terminal.
func contentType(tty bool) string {
	if tty {
		return "application/vnd.docker.raw-stream"
	}
	return "application/vnd.docker.multiplexed-stream"
}

func (h *handlers) attach(ctx context.Context, r *route.Request) (route.Response, error) {
	a, err := h.svc.Attach(ctx, r.Var("id"), attachRequest(r))
	if err != nil {
		return nil, err
	}
	if r.Dialect.UnframedStreams {
		return route.Hijack{ContentType: contentType(true), Run: func(ctx context.Context, c route.Conn) error {
			return a.ServeUnframed(ctx, c)
		}}, nil
	}
	return route.Hijack{ContentType: contentType(a.TTY()), Run: func(ctx context.Context, c route.Conn) error {
		return a.Serve(ctx, c)
	}}, nil
}

func attachRequest(r *route.Request) containers.AttachRequest {
	return containers.AttachRequest{
		Stdin: r.Bool("stdin"), Stdout: r.Bool("stdout"), Stderr: r.Bool("stderr"),
		Logs: r.Bool("logs"), Stream: r.Bool("stream"), DetachKeys: r.Query.Get("detachKeys"),
	}
}

// attachWS is attach over a websocket: its frames carry plain bytes, without stdcopy headers.
func (h *handlers) attachWS(ctx context.Context, r *route.Request) (route.Response, error) {
	a, err := h.svc.Attach(ctx, r.Var("id"), attachRequest(r))
	if err != nil {
		return nil, err
	}
	return route.Hijack{WebSocket: true, Run: func(ctx context.Context, c route.Conn) error {
		return a.ServeUnframed(ctx, c)
	}}, nil
}

func (h *handlers) logs(_ context.Context, r *route.Request) (route.Response, error) {
	req, err := logsRequest(r)
	if err != nil {
		return nil, err
	}
	l, err := h.svc.LogsOf(r.Var("id"), req)
	if err != nil {
		return nil, err
	}
	return route.Raw{ContentType: contentType(l.TTY()), Early: true, Run: func(ctx context.Context, w io.Writer) error {
		return l.Send(ctx, w)
	}}, nil
}

func logsRequest(r *route.Request) (containers.LogsRequest, error) {
	req := containers.LogsRequest{
		Stdout: r.Bool("stdout"), Stderr: r.Bool("stderr"), Follow: r.Bool("follow"),
		Timestamps: r.Bool("timestamps"), Details: r.Bool("details"), Tail: -1,
	}
	var err error
	if req.Since, err = moment(r, "since"); err != nil {
		return req, err
	}
	if req.Until, err = moment(r, "until"); err != nil {
		return req, err
	}
	if t := r.Query.Get("tail"); t != "" && t != "all" {
		if n, err := strconv.Atoi(t); err == nil && n >= 0 {
			req.Tail = n
		}
	}
	return req, nil
}

// moment reads seconds since 1970 with up to nine decimals; "0" and empty are no limit.
func moment(r *route.Request, key string) (time.Time, error) {
	s := r.Query.Get(key)
	if s == "" || s == "0" {
		return time.Time{}, nil
	}
	whole, frac, _ := strings.Cut(s, ".")
	sec, err := strconv.ParseInt(whole, 10, 64)
	var nano int64
	if err == nil && frac != "" {
		nano, err = strconv.ParseInt((frac + "000000000")[:9], 10, 64)
	}
	if err != nil {
		return time.Time{}, fault.Invalid("invalid value for \"%s\": failed to parse value as time or duration: %q", key, s)
	}
	return time.Unix(sec, nano), nil
}
