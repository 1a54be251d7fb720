package logserver

import (
	"context"
	"fmt"
	"maps"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/fluent/fluent-logger-golang/fluent"

	"longshore/internal/core/logs"
)

var fluentdOptions = []string{
	"fluentd-address", "fluentd-async", "fluentd-async-connect", "fluentd-async-reconnect-interval", "fluentd-buffer-limit", "fluentd-max-retries",
	"fluentd-read-timeout", "fluentd-request-ack", "fluentd-retry-wait", "fluentd-sub-second-precision", "fluentd-write-timeout",
}

func checkFluentd(options map[string]string) error {
	if _, err := fluentdEndpoint(options); err != nil {
		return err
	}
	if err := checkBool(options, "fluentd-async", "fluentd-async-connect", "fluentd-request-ack", "fluentd-sub-second-precision"); err != nil {
		return err
	}
	if err := checkInt(options, "fluentd-max-retries"); err != nil {
		return err
	}
	return checkDuration(options, "fluentd-async-reconnect-interval", "fluentd-read-timeout", "fluentd-retry-wait", "fluentd-write-timeout")
}

func fluentdEndpoint(options map[string]string) (endpoint, error) {
	text := options["fluentd-address"]
	if text == "" {
		text = "tcp://127.0.0.1:24224"
	}
	if !strings.Contains(text, "://") { // host:port alone is docker's oldest form
		text = "tcp://" + text
	}
	return parseEndpoint("fluentd-address", text, "24224", "tcp", "tls", "unix")
}

// fluentdSink speaks fluentd's forward protocol. Whoever sends keeps and repeats, so the library's own buffer and its
// endless retries stay off.
type fluentdSink struct {
	f    *fluent.Fluent
	tag  string
	base map[string]string
}

func openFluentd(_ context.Context, _ string, t logs.Target) (logs.Sink, error) {
	e, err := fluentdEndpoint(t.Options)
	if err != nil {
		return nil, err
	}
	cfg := fluent.Config{FluentNetwork: e.network, Timeout: dialTimeout, WriteTimeout: sendTimeout, ReadTimeout: sendTimeout, MaxRetry: 1, RetryWait: 1}
	if e.network == "unix" {
		cfg.FluentSocketPath = e.address
	} else {
		host, port, err := net.SplitHostPort(e.address)
		if err != nil {
			return nil, err
		}
		cfg.FluentHost = host
		if cfg.FluentPort, err = strconv.Atoi(port); err != nil {
			return nil, err
		}
	}
	cfg.RequestAck, _ = strconv.ParseBool(t.Options["fluentd-request-ack"]) // checked before
	cfg.SubSecondPrecision, _ = strconv.ParseBool(t.Options["fluentd-sub-second-precision"])
	for key, to := range map[string]*time.Duration{"fluentd-write-timeout": &cfg.WriteTimeout, "fluentd-read-timeout": &cfg.ReadTimeout} {
		if d, err := time.ParseDuration(t.Options[key]); err == nil && d > 0 {
			*to = d
		}
	}
	s := &fluentdSink{tag: tagOr(t.Origin), base: map[string]string{"container_id": t.Origin.ID, "container_name": t.Origin.Name}}
	maps.Copy(s.base, t.Origin.Attrs)
	if s.f, err = fluent.New(cfg); err != nil {
		return nil, fmt.Errorf("fluentd: %w", err)
	}
	return s, nil
}

// Send implements logs.Sink.
func (s *fluentdSink) Send(_ context.Context, lines []logs.Line) error {
	for _, l := range lines {
		record := maps.Clone(s.base)
		record["log"] = string(l.Text)
		record["source"] = "stdout"
		if l.Stream == logs.Stderr {
			record["source"] = "stderr"
		}
		if err := s.f.PostWithTime(s.tag, l.Time, record); err != nil {
			return fmt.Errorf("fluentd: %w", err)
		}
	}
	return nil
}

// Close implements logs.Sink.
func (s *fluentdSink) Close() error { return s.f.Close() }
