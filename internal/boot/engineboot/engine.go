// Package engineboot builds the engine out of its parts, in the order of their dependencies, runs it and takes it down
// in reverse. It is the only place that knows every part.
package engineboot

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"longshore/internal/boot/engineconfig"
	"longshore/internal/driver/listener"
	"longshore/internal/driver/rootlock"
	"longshore/internal/service/engine/images/transfer"
)

// Build says which program this is.
type Build struct {
	Version, Commit, Time string
	// Level is the log's, for reloads.
	Level *slog.LevelVar
}

// Level reads a log level of the configuration.
func Level(name string) slog.Level {
	switch name {
	case "debug":
		return slog.LevelDebug
	case "info":
		return slog.LevelInfo
	case "warn":
		return slog.LevelWarn
	}
	return slog.LevelError
}

// Neighbour is the registry that runs in the same process, for pushes and pulls that move no bytes.
type Neighbour = transfer.Neighbour

// Run starts the engine and serves until ctx is done. It returns when everything has been taken down. n is nil when no
// registry runs in this process.
func Run(ctx context.Context, cfg *engineconfig.Config, b Build, log *slog.Logger, n Neighbour) (err error) {
	down := &closers{}
	socket := notifySocket()
	defer func() { err = errors.Join(err, down.close()) }()
	cfg, ids, err := remapRoot(cfg)
	if err != nil {
		return err
	}
	if err := lockRoots(cfg, down); err != nil {
		return err
	}
	for key, why := range cfg.WithoutEffect() {
		log.Warn("a setting has no effect", "key", key, "why", why)
	}
	e := &engine{cfg: cfg, isolation: isolation{ids: ids}, build: b, log: log, neighbour: n, level: b.Level}
	if e.level == nil {
		e.level = &slog.LevelVar{}
	}
	e.notify = socket
	e.ending.Store(int64(cfg.ShutdownTimeout))
	e.background(e.watchReload)
	err = e.assemble(ctx, down)
	if err != nil {
		return err
	}
	listeners, err := listen(cfg, log)
	if err != nil {
		return err
	}
	return e.serve(ctx, listeners)
}

// closers are undone in reverse.
type closers struct{ list []func() error }

func (c *closers) add(f func() error) { c.list = append(c.list, f) }

func (c *closers) close() error {
	var errs []error
	for i := len(c.list) - 1; i >= 0; i-- {
		errs = append(errs, c.list[i]())
	}
	return errors.Join(errs...)
}

func lockRoots(cfg *engineconfig.Config, down *closers) error {
	var lock *rootlock.Lock
	for _, dir := range []string{cfg.DataRoot, cfg.ExecRoot} {
		l, err := rootlock.Acquire(dir)
		if err != nil {
			return err
		}
		down.add(l.Release)
		lock = l
	}
	if cfg.Pidfile == "" {
		return nil
	}
	remove, err := lock.WritePidfile(cfg.Pidfile)
	if err != nil {
		return err
	}
	down.add(remove)
	return nil
}

func listen(cfg *engineconfig.Config, log *slog.Logger) ([]net.Listener, error) {
	var all []net.Listener
	var secure *tls.Config
	if cfg.TLS {
		var err error
		ca := ""
		if cfg.TLSVerify {
			ca = cfg.TLSCACert
		}
		if secure, err = listener.TLS(cfg.TLSCert, cfg.TLSKey, ca); err != nil {
			return nil, err
		}
	}
	for _, h := range cfg.Hosts {
		if strings.HasPrefix(h, "tcp://") && !cfg.TLSVerify {
			log.Warn("whoever reaches this address is root on this host: use --tlsverify", "host", h)
		}
		ls, err := listener.Listen(h, cfg.Group, secure)
		if err != nil {
			for _, l := range all {
				_ = l.Close()
			}
			return nil, err
		}
		all = append(all, ls...)
	}
	return all, nil
}

// serve runs the background work and the HTTP servers until ctx is done or one of them fails.
func (e *engine) serve(ctx context.Context, listeners []net.Listener) error {
	background, stopBackground := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBackground()
	work, workCtx := errgroup.WithContext(background)
	for _, run := range e.run {
		work.Go(func() error { return run(workCtx) })
	}
	err := e.restore(ctx)
	if err == nil { // a plugin may be one of the containers
		err = e.gate.load(ctx, e.cfg.AuthorizationPlugins)
	}
	if err != nil {
		stopBackground()
		return errors.Join(err, work.Wait())
	}
	// Requests end with the server, not with the signal: a client that waits gets its answer or a closed connection.
	requests, stopRequests := context.WithCancel(background)
	defer stopRequests()
	srv := &http.Server{
		Handler: e.handler, ReadHeaderTimeout: 5 * time.Minute, MaxHeaderBytes: 1 << 20,
		BaseContext: func(net.Listener) context.Context { return requests },
		ErrorLog:    slog.NewLogLogger(e.log.Handler(), slog.LevelDebug),
	}
	for _, l := range listeners {
		e.log.Info("API listens", "on", l.Addr().Network()+"://"+l.Addr().String())
		work.Go(func() error {
			if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("serve API: %w", err)
			}
			return nil
		})
	}
	stopMetrics, err := e.serveMetrics(work.Go)
	if err != nil {
		stopBackground()
		return errors.Join(err, srv.Close(), work.Wait())
	}
	e.ready()
	select {
	case <-ctx.Done():
		e.log.Info("stopping")
		notify(e.notify, "STOPPING=1", e.log)
	case <-workCtx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), e.shutdownLimit())
	defer cancel()
	err = e.containers.Shutdown(stop)
	stopRequests()
	err = errors.Join(err, srv.Close(), stopMetrics())
	stopBackground()
	return errors.Join(err, e.settle(work))
}

// settleLimit is longer than what a container's actor gives itself to end.
const settleLimit = 15 * time.Second

// settle waits for the background work, but not for ever: a system call on a file system that does not answer never ends. What hangs
// is left as by a daemon that was killed.
func (e *engine) settle(work *errgroup.Group) error {
	done := make(chan error, 1)
	go func() { done <- work.Wait() }()
	limit := time.NewTimer(settleLimit)
	defer limit.Stop()
	select {
	case err := <-done:
		return err
	case <-limit.C:
		e.log.Error("something hangs and is left behind: see to the file systems that containers have mounted")
		return nil
	}
}

func (e *engine) shutdownLimit() time.Duration {
	if t := e.ending.Load(); t >= 0 {
		return time.Duration(t)*time.Second + 10*time.Second
	}
	return 24 * time.Hour
}

// shimPath finds longshore-shim: as configured, beside this program, or on the PATH's usual places.
func shimPath(configured string) (string, error) {
	if configured != "" {
		return filepath.Abs(configured)
	}
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	for _, p := range []string{filepath.Join(filepath.Dir(self), "longshore-shim"), "/usr/local/libexec/longshore-shim", "/usr/libexec/longshore-shim"} {
		if fi, err := os.Stat(p); err == nil && fi.Mode().IsRegular() {
			return p, nil
		}
	}
	return "", fmt.Errorf("longshore-shim is not beside %s: build it with make build, or name it with --shim-path", self)
}
