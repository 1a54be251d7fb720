package registryboot

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"longshore/internal/boot/registryconfig"
)

// logs are the registry's log and its audit log: JSON lines with zot's names.
type logs struct {
	main, audit *slog.Logger
	level       slog.LevelVar
	files       []io.Closer
}

func openLogs(cfg registryconfig.Log, given *slog.Logger) (*logs, error) {
	l := &logs{main: given}
	l.level.Set(level(cfg.Level))
	if given == nil {
		out := io.Writer(os.Stdout)
		if cfg.Output != "" {
			f, err := l.open(cfg.Output)
			if err != nil {
				return nil, fmt.Errorf("log.output: %w", err)
			}
			out = f
		}
		l.main = slog.New(slog.NewJSONHandler(out, &slog.HandlerOptions{Level: &l.level, ReplaceAttr: zotNames}))
	}
	if cfg.Audit != "" {
		f, err := l.open(cfg.Audit)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("log.audit: %w", err), l.Close())
		}
		l.audit = slog.New(slog.NewJSONHandler(f, &slog.HandlerOptions{ReplaceAttr: zotNames}))
	}
	return l, nil
}

func (l *logs) open(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err == nil {
		l.files = append(l.files, f)
	}
	return f, err
}

// zotNames writes "message" and lower-case levels.
func zotNames(groups []string, a slog.Attr) slog.Attr {
	if len(groups) > 0 {
		return a
	}
	switch a.Key {
	case slog.MessageKey:
		a.Key = "message"
	case slog.LevelKey:
		a.Value = slog.StringValue(strings.ToLower(a.Value.String()))
	}
	return a
}

// level is a level of zot's (zerolog's) names.
func level(name string) slog.Level {
	switch strings.ToLower(name) {
	case "trace", "debug":
		return slog.LevelDebug
	case "warn":
		return slog.LevelWarn
	case "error", "fatal", "panic":
		return slog.LevelError
	}
	return slog.LevelInfo
}

// Close closes the files.
func (l *logs) Close() error {
	if l == nil {
		return nil
	}
	var errs []error
	for _, f := range l.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// discard is a logger for commands that print for themselves.
func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
