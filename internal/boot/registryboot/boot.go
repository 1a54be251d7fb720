// Package registryboot builds the registry from its configuration and runs it: stores, index, accounts, the service, the
// HTTP server, reloading. The commands of "longshore registry" are its functions.
//
//	err := registryboot.Serve(ctx, "/etc/zot/config.json", registryboot.Options{})
//
// What the registry keeps lies below "_longshore" in storage.rootDirectory: no repository of a zot that used the folder
// before can have that name, and blobs cross over by hard link.
package registryboot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"longshore/internal/boot/registryconfig"
	"longshore/internal/core/handover"
	"longshore/internal/server/registryapi"
	"longshore/internal/server/registryapi/metrics"
	"longshore/internal/service/auth"
	"longshore/internal/service/registry"
)

// Options are what does not stand in the configuration.
type Options struct {
	// Version is told by the API.
	Version string
	// Logger replaces the log section of the configuration; nil follows it.
	Logger *slog.Logger
	// Listener replaces http.address and http.port; the registry closes it. nil listens as configured.
	Listener net.Listener
	// Listening is called with the address once connections are taken; may be nil.
	Listening func(net.Addr)
	// ConfigPath is watched, and read again when it changes; empty watches nothing.
	ConfigPath string
	// V1 serves registry API v1 and its index where the configuration says nothing of it.
	V1 bool
	// Now is the clock of everything that says who somebody is; nil means time.Now.
	Now func() time.Time
}

// Registry is a built registry. Make it with New, run it with Run once.
type Registry struct {
	cfg      *registryconfig.Config
	options  Options
	log      *slog.Logger
	logs     *logs
	shelves  *shelves
	service  *registry.Service
	auth     *auth.Service
	api      *registryapi.Server
	certs    *certificates
	metrics  *metrics.Metrics
	listener net.Listener
	desk     handover.Desk
	own      own
	old      old
	mounts   []registryapi.Mount
}

// Serve reads a configuration and runs the registry until ctx ends.
func Serve(ctx context.Context, configPath string, o Options) error {
	r, err := Load(ctx, configPath, o)
	if err != nil {
		return err
	}
	return r.Run(ctx)
}

// Load is New with the configuration of a file, which is watched while the registry runs.
func Load(ctx context.Context, configPath string, o Options) (*Registry, error) {
	cfg, warnings, err := registryconfig.Load(configPath)
	if err != nil {
		return nil, err
	}
	o.ConfigPath = configPath
	r, err := New(ctx, cfg, o)
	if err != nil {
		return nil, err
	}
	for _, w := range warnings {
		r.log.Warn("configuration", "remark", w.String())
	}
	return r, nil
}

// Embedded is the configuration of the registry that runs beside the engine when nobody configured one: it keeps its
// content in root and listens where only this machine can reach it. Everybody may do everything, with a name or without;
// accounts, log-in, OAuth2 and tokens are there for those who want them.
func Embedded(root, port string) *registryconfig.Config {
	cfg := registryconfig.Default()
	cfg.Storage.RootDirectory, cfg.HTTP.Port = root, port
	cfg.HTTP.Auth = &registryconfig.Auth{Accounts: &registryconfig.Accounts{Registration: true}, Token: &registryconfig.Token{}}
	everything := []string{string(auth.Read), string(auth.Create), string(auth.Update), string(auth.Delete)}
	cfg.HTTP.AccessControl = &registryconfig.AccessControl{Repositories: map[string]*registryconfig.PolicyGroup{
		"**": {DefaultPolicy: everything, AnonymousPolicy: everything},
	}}
	cfg.Settle()
	return cfg
}

// New opens everything and listens; it serves nothing yet. The caller runs it, or closes it.
func New(ctx context.Context, cfg *registryconfig.Config, o Options) (*Registry, error) {
	r := &Registry{cfg: cfg, options: o}
	if err := r.open(ctx); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func (r *Registry) open(ctx context.Context) (err error) {
	cfg, o := r.cfg, r.options
	if r.logs, err = openLogs(cfg.Log, o.Logger); err != nil {
		return err
	}
	r.log = r.logs.main
	if r.shelves, err = openShelves(ctx, cfg.Storage, exclusively); err != nil {
		return err
	}
	if r.service, err = registry.New(r.shelves.index, r.shelves.blobs, r.serviceConfig()); err != nil {
		return err
	}
	if err := r.openPeople(); err != nil {
		return err
	}
	r.openOld()
	if cfg.HTTP.TLS != nil {
		if r.certs, err = loadCertificates(*cfg.HTTP.TLS, needsCertificate(cfg.HTTP)); err != nil {
			return err
		}
	}
	if cfg.MetricsPath() != "" {
		r.metrics = metrics.New(o.Version, registryapi.NewRelease(o.Version).Commit)
	}
	r.api = registryapi.New(r.service, r.auth, r.apiOptions(cfg))
	if r.listener = o.Listener; r.listener == nil {
		r.listener, err = net.Listen("tcp", net.JoinHostPort(cfg.HTTP.Address, cfg.HTTP.Port))
	}
	return err
}

// Service is the registry without HTTP, for the engine that shares its process.
func (r *Registry) Service() *registry.Service { return r.service }

// Addr is where the registry listens.
func (r *Registry) Addr() net.Addr { return r.listener.Addr() }

// Handler is the registry's HTTP, for servers of others.
func (r *Registry) Handler() http.Handler { return r.api }

// Close gives back what New opened. Run does it at its end.
func (r *Registry) Close() error {
	var errs []error
	if r.listener != nil {
		if err := r.listener.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	for _, c := range []io.Closer{r.shelves, r.logs} {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// grace is how long requests may go on after the end has been asked for.
const grace = 15 * time.Second

// Run serves until ctx ends, then lets requests finish, writes what is left to write and closes everything.
func (r *Registry) Run(ctx context.Context) error {
	var unused fresh
	server := r.server()
	server.ConnState = unused.note
	g, gctx := errgroup.WithContext(ctx)
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	g.Go(func() error { return r.service.Run(background) })
	for _, run := range r.runOld() {
		g.Go(func() error { return run(background) })
	}
	g.Go(func() error { return r.watch(gctx) })
	g.Go(func() error {
		if err := server.Serve(r.tls(r.listener)); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		<-gctx.Done()
		defer stop() // what requests counted is written after the last of them
		r.api.Ready(false)
		unused.close()
		limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
		defer cancel()
		if server.Shutdown(limit) != nil {
			return server.Close()
		}
		return nil
	})
	r.api.Ready(true)
	r.log.Info("registry is listening", "address", r.listener.Addr().String(), "tls", r.certs != nil)
	if r.options.Listening != nil {
		r.options.Listening(r.listener.Addr())
	}
	err := g.Wait()
	return errors.Join(err, r.Close())
}

// maxHeader bounds a request's header in bytes; more is 431.
const maxHeader = 64 << 10

func (r *Registry) server() *http.Server {
	return &http.Server{
		Handler: r.api, MaxHeaderBytes: maxHeader, ReadHeaderTimeout: 30 * time.Second, IdleTimeout: 3 * time.Minute,
		ReadTimeout: r.cfg.HTTP.ReadTimeout, WriteTimeout: r.cfg.HTTP.WriteTimeout,
		ErrorLog: slog.NewLogLogger(r.log.Handler(), slog.LevelDebug),
	}
}
