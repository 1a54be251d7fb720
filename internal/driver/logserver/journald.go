package logserver

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/journal"

	"longshore/internal/core/logs"
)

// journaldSink writes journal entries with docker's fields.
type journaldSink struct {
	vars    map[string]string
	epoch   string
	ordinal uint64
}

func openJournald(_ context.Context, _ string, t logs.Target) (logs.Sink, error) {
	if !journal.Enabled() {
		return nil, errors.New("journald is not enabled on this host")
	}
	o := t.Origin
	vars := map[string]string{
		"CONTAINER_ID": o.ID[:min(12, len(o.ID))], "CONTAINER_ID_FULL": o.ID, "CONTAINER_NAME": strings.TrimPrefix(o.Name, "/"),
		"CONTAINER_TAG": tagOr(o), "IMAGE_NAME": o.ImageName, "SYSLOG_IDENTIFIER": tagOr(o),
	}
	for k, v := range o.Attrs {
		if name := journalField(k); name != "" {
			vars[name] = v
		}
	}
	return &journaldSink{vars: vars, epoch: o.ID + strconv.FormatInt(time.Now().UnixNano(), 36)}, nil
}

// journalField makes a name that the journal takes: upper case letters, digits and underscores, none in front.
func journalField(key string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z':
			return r - 'a' + 'A'
		case 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
			return r
		}
		return '_'
	}, key)
	return strings.TrimLeft(name, "_0123456789")
}

// Send implements logs.Sink.
func (s *journaldSink) Send(_ context.Context, lines []logs.Line) error {
	for _, l := range lines {
		if len(l.Text) == 0 {
			continue
		}
		s.ordinal++
		s.vars["SYSLOG_TIMESTAMP"] = l.Time.Format(time.RFC3339Nano)
		s.vars["CONTAINER_LOG_EPOCH"] = s.epoch
		s.vars["CONTAINER_LOG_ORDINAL"] = strconv.FormatUint(s.ordinal, 10)
		priority := journal.PriInfo
		if l.Stream == logs.Stderr {
			priority = journal.PriErr
		}
		if err := journal.Send(string(l.Text), priority, s.vars); err != nil {
			return fmt.Errorf("journald: %w", err)
		}
	}
	return nil
}

// Close implements logs.Sink. The library's socket is shared and stays.
func (s *journaldSink) Close() error { return nil }
