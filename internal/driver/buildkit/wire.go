package buildkit

import (
	"context"
	"fmt"
	"net"
	"os"

	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/control"
	"github.com/moby/buildkit/util/grpcerrors"
	"golang.org/x/net/http2"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"longshore/internal/core/build"
)

var (
	_ build.Builder = (*Builder)(nil)
	_ build.Wire    = (*Builder)(nil)
)

// newServer serves BuildKit's control API; idle is told when a build has ended.
func newServer(c *control.Controller, idle func()) *grpc.Server {
	told := func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		if info.FullMethod == controlapi.Control_Solve_FullMethodName {
			defer idle()
		}
		return handler(ctx, req)
	}
	s := grpc.NewServer(
		grpc.ChainUnaryInterceptor(grpcerrors.UnaryServerInterceptor, told), grpc.StreamInterceptor(grpcerrors.StreamServerInterceptor),
		grpc.MaxRecvMsgSize(32<<20), grpc.MaxSendMsgSize(32<<20), grpc.WaitForHandlers(true),
	)
	c.Register(s)
	grpc_health_v1.RegisterHealthServer(s, health.NewServer())
	return s
}

// Session implements build.Wire: what the client offers is there as long as its connection.
func (b *Builder) Session(ctx context.Context, conn net.Conn, meta map[string][]string) error {
	c, err := b.open(ctx)
	if err != nil {
		_ = conn.Close()
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	return c.sessions.HandleConn(ctx, &tied{conn, cancel}, meta)
}

// tied is a session's connection that ends the session when the client has gone: left alone, the session would notice
// with its next health check.
type tied struct {
	net.Conn
	gone context.CancelFunc
}

// Read implements net.Conn.
func (t *tied) Read(p []byte) (int, error) {
	n, err := t.Conn.Read(p)
	if err != nil {
		t.gone()
	}
	return n, err
}

// Control implements build.Wire. The connection is HTTP/2 without TLS from its first byte.
func (b *Builder) Control(ctx context.Context, conn net.Conn) error {
	defer conn.Close()
	c, err := b.open(ctx)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	(&http2.Server{}).ServeConn(conn, &http2.ServeConnOpts{Context: ctx, Handler: c.server})
	return nil
}

// socketPair is a connection within the process that, other than net.Pipe, has buffers.
func socketPair() (a, b net.Conn, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make socket pair: %w", err)
	}
	one, two := os.NewFile(uintptr(fds[0]), "session"), os.NewFile(uintptr(fds[1]), "session")
	defer one.Close()
	defer two.Close()
	if a, err = net.FileConn(one); err != nil {
		return nil, nil, fmt.Errorf("make socket pair: %w", err)
	}
	if b, err = net.FileConn(two); err != nil {
		_ = a.Close()
		return nil, nil, fmt.Errorf("make socket pair: %w", err)
	}
	return a, b, nil
}
