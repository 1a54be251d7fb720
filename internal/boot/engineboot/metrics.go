package engineboot

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// serveMetrics opens metrics-addr, if there is one, and serves it until stop.
func (e *engine) serveMetrics(background func(func() error)) (stop func() error, err error) {
	if e.metrics == nil {
		return func() error { return nil }, nil
	}
	l, err := net.Listen("tcp", e.cfg.MetricsAddr)
	if err != nil {
		return nil, fmt.Errorf("metrics-addr: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", e.metrics)
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute, MaxHeaderBytes: 1 << 16}
	e.log.Info("metrics are served", "on", "http://"+l.Addr().String()+"/metrics")
	background(func() error {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve metrics: %w", err)
		}
		return nil
	})
	return srv.Close, nil
}
