package engineapi

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"longshore/internal/base/socket"
	"longshore/internal/core/fault"
	"longshore/internal/server/route"
	"longshore/internal/server/stream"
)

// Stream content types of docker's hijacked connections.
const (
	rawStream         = "application/vnd.docker.raw-stream"
	multiplexedStream = "application/vnd.docker.multiplexed-stream"
)

// headTime bounds how long a stream waits for a client to take the answer's head. Clients that give the connection to an HTTP
// library for the head and read the stream beside it (docker-py) lose what comes together with the head; dockerd's
// streams begin milliseconds later than ours.
const headTime = 200 * time.Millisecond

// hijack takes the connection over and runs the handler's stream on it.
func (s *Server) hijack(ctx context.Context, w http.ResponseWriter, r *route.Request, v route.Hijack) {
	if v.Prepare != nil {
		if err := v.Prepare(ctx); err != nil {
			s.fail(w, r.HTTP, r.Dialect, err)
			return
		}
	}
	if v.WebSocket {
		ws, err := stream.Upgrade(w, r.HTTP, r.Dialect.TextWebSocket)
		if err != nil {
			s.log.Debug("websocket hand-shake failed", "path", r.HTTP.URL.Path, "error", err)
			return // the upgrader has answered
		}
		defer ws.Close()
		s.runHijacked(ctx, r, v, ws)
		return
	}
	hj, ok := w.(http.Hijacker)
	if !ok {
		s.fail(w, r.HTTP, r.Dialect, fault.Internal("this connection cannot be taken over"))
		return
	}
	header := w.Header().Clone()
	conn, rw, err := hj.Hijack()
	if err != nil {
		s.fail(w, r.HTTP, r.Dialect, fmt.Errorf("take over connection: %w", err))
		return
	}
	defer conn.Close()
	if _, err := conn.Write(hijackHead(header, r, v)); err != nil {
		return
	}
	socket.AwaitRead(conn, headTime)
	s.runHijacked(ctx, r, v, stream.NewConn(conn, rw.Reader))
}

func (s *Server) runHijacked(ctx context.Context, r *route.Request, v route.Hijack, c route.Conn) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("stream panicked", "path", r.HTTP.URL.Path, "panic", p, "stack", stack())
		}
	}()
	if err := v.Run(ctx, c); err != nil {
		s.log.Debug("stream ended", "path", r.HTTP.URL.Path, "error", err)
	}
}

// hijackHead is the answer's head: 101 when the client asked for an upgrade, else docker's 200.
func hijackHead(header http.Header, r *route.Request, v route.Hijack) []byte {
	var b strings.Builder
	upgrade := r.HTTP.Header.Get("Upgrade") != "" && !r.Dialect.NoUpgrade
	ct := v.ContentType
	if ct == multiplexedStream && (!upgrade || r.Dialect.RawStreamType) {
		ct = rawStream
	}
	if upgrade {
		proto := v.Upgrade
		if proto == "" {
			proto = "tcp"
		}
		fmt.Fprintf(&b, "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: %s\r\n", proto)
	} else {
		b.WriteString("HTTP/1.1 200 OK\r\n")
	}
	if ct != "" {
		fmt.Fprintf(&b, "Content-Type: %s\r\n", ct)
	}
	for _, k := range []string{"Api-Version", "Docker-Experimental", "Ostype", "Server"} {
		fmt.Fprintf(&b, "%s: %s\r\n", k, header.Get(k))
	}
	b.WriteString("\r\n")
	return []byte(b.String())
}
