package registryapi

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"time"
)

// logRequest writes the request down: what changes something, and what fails, as info; reads as debug. What changes
// something or tries to goes to the audit log too.
func (s *Server) logRequest(x *exchange, took time.Duration) {
	level := slog.LevelInfo
	writes := x.r.Method != http.MethodGet && x.r.Method != http.MethodHead && x.r.Method != http.MethodOptions
	if !writes && x.status < http.StatusInternalServerError {
		level = slog.LevelDebug
	}
	ctx := context.WithoutCancel(x.r.Context())
	if s.log.Enabled(ctx, level) {
		s.log.LogAttrs(ctx, level, "HTTP API", slog.String("clientIP", x.r.RemoteAddr), slog.String("method", x.r.Method),
			slog.String("path", clip(x.r.URL.RequestURI())), slog.Int("statusCode", x.status), slog.Duration("latency", took),
			slog.Int64("bodySize", x.sent), slog.String("subject", x.subject()))
	}
	if s.audit != nil && writes {
		s.audit.LogAttrs(ctx, slog.LevelInfo, "HTTP API Audit", slog.String("component", "session"),
			slog.String("clientIP", x.r.RemoteAddr), slog.String("subject", x.subject()), slog.String("action", x.r.Method),
			slog.String("object", clip(x.r.URL.Path)), slog.Int("status", x.status))
	}
}

func (x *exchange) subject() string {
	if x.who == nil {
		return x.told
	}
	return x.who.Name
}

// downloaded and uploaded count manifests, as zot does.
func (s *Server) downloaded(x *exchange) {
	if s.metrics != nil {
		s.metrics.Downloaded(string(x.repo))
	}
}

func (s *Server) uploaded(x *exchange) {
	if s.metrics != nil {
		s.metrics.Uploaded(strings.Clone(string(x.repo)))
	}
}
