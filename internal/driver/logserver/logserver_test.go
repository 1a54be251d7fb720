package logserver

import (
	"bufio"
	"context"
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/Graylog2/go-gelf/gelf"
	"github.com/containerd/errdefs"
	"github.com/fluent/fluent-logger-golang/fluent"
	"github.com/tinylib/msgp/msgp"

	"longshore/internal/core/logs"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var (
	at    = time.Date(2026, 1, 2, 3, 4, 5, 600_000_000, time.UTC)
	lines = []logs.Line{
		{Stream: logs.Stdout, Time: at, Text: []byte("first \x00line")}, {Stream: logs.Stderr, Time: at.Add(time.Millisecond), Text: []byte("second")},
	}
)

func target(driver string, options ...string) logs.Target {
	o := map[string]string{}
	for i := 0; i < len(options); i += 2 {
		o[options[i]] = options[i+1]
	}
	return logs.Target{Driver: driver, Options: o, Origin: logs.Origin{
		ID: strings.Repeat("ab", 32), Name: "/web", ImageID: "sha256:00", ImageName: "busybox", Command: "echo hi", Created: at,
		Attrs: map[string]string{"com.example/role": "front"},
	}}
}

func send(t *testing.T, tg logs.Target) {
	t.Helper()
	s, err := New()
	must(t, err)
	must(t, s.Check(tg.Driver, tg.Options))
	sink, err := s.Open(t.Context(), tg)
	must(t, err)
	must(t, sink.Send(t.Context(), lines))
	must(t, sink.Close())
}

func TestSyslogDatagrams(t *testing.T) {
	for format, want := range map[string]string{
		"":             `^<30>Jan +2 ..:04:05 abababababab\[\d+\]: first \x00line$`,
		"rfc3164":      `^<30>Jan +2 ..:04:05 \S+ abababababab\[\d+\]: first \x00line$`,
		"rfc5424":      `^<30>1 2026-01-02T03:04:05Z \S+ abababababab \d+ abababababab - first \x00line$`,
		"rfc5424micro": `^<30>1 2026-01-02T03:04:05\.600000Z \S+ abababababab \d+ abababababab - first \x00line$`,
	} {
		path := filepath.Join(t.TempDir(), "s")
		for network, address := range map[string]string{"udp": "127.0.0.1:0", "unixgram": path} {
			l, err := net.ListenPacket(network, address)
			must(t, err)
			defer l.Close()
			send(t, target("syslog", "syslog-address", network+"://"+l.LocalAddr().String(), "syslog-format", format))
			b := make([]byte, 1000)
			must(t, l.SetReadDeadline(time.Now().Add(10*time.Second)))
			n, _, err := l.ReadFrom(b)
			must(t, err)
			if !regexp.MustCompile(want).Match(b[:n]) {
				t.Errorf("%s %q: %q", network, format, b[:n])
			}
			n, _, err = l.ReadFrom(b)
			must(t, err)
			if !strings.HasPrefix(string(b[:n]), "<27>") {
				t.Errorf("stderr: %q", b[:n])
			}
		}
	}
}

// TestSyslogStream: newlines frame, and a server that hung up is noticed by the next send at the latest.
func TestSyslogStream(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	s, err := New()
	must(t, err)
	sink, err := s.Open(t.Context(), target("syslog", "syslog-address", "tcp://"+l.Addr().String(), "syslog-facility", "local3"))
	must(t, err)
	conn, err := l.Accept()
	must(t, err)
	must(t, sink.Send(t.Context(), lines))
	r := bufio.NewReader(conn)
	for _, pri := range []string{"<158>", "<155>"} {
		line, err := r.ReadString('\n')
		if err != nil || !strings.HasPrefix(line, pri) {
			t.Errorf("%q %v", line, err)
		}
	}
	conn.Close()
	deadline := time.Now().Add(10 * time.Second)
	for sink.Send(t.Context(), lines) == nil {
		if time.Now().After(deadline) {
			t.Fatal("nobody noticed")
		}
	}
	must(t, sink.Close())
	l.Close()
	if _, err := s.Open(t.Context(), target("syslog", "syslog-address", "tcp://"+l.Addr().String())); err == nil {
		t.Error("a server that is not there can be opened")
	}
}

func TestGELF(t *testing.T) {
	check := func(m *gelf.Message, err error) {
		t.Helper()
		must(t, err)
		if m.Short != "first \x00line" || m.Level != 6 || m.TimeUnix != 1767323045.6 || m.Extra["_container_name"] != "web" ||
			m.Extra["_com.example/role"] != "front" || m.Extra["_tag"] != "abababababab" {
			t.Errorf("%+v", m)
		}
	}
	for _, compression := range []string{"gzip", "zlib", "none"} {
		udp, err := gelf.NewReader("127.0.0.1:0")
		must(t, err)
		send(t, target("gelf", "gelf-address", "udp://"+udp.Addr(), "gelf-compression-type", compression))
		check(udp.ReadMessage())
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	send(t, target("gelf", "gelf-address", "tcp://"+l.Addr().String()))
	conn, err := l.Accept()
	must(t, err)
	defer conn.Close()
	text, err := bufio.NewReader(conn).ReadBytes(0)
	must(t, err)
	m := &gelf.Message{}
	must(t, m.UnmarshalJSON(text[:len(text)-1]))
	check(m, nil)
}

// TestFluentd answers as fluentd's forward input does, with acknowledgements.
func TestFluentd(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	must(t, err)
	defer l.Close()
	got := make(chan fluent.MessageExt, 2)
	go func() {
		defer close(got)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		r := msgp.NewReader(conn)
		for range 2 {
			var m fluent.MessageExt
			if m.DecodeMsg(r) != nil {
				return
			}
			if chunk, ok := m.Option["chunk"]; ok {
				w := msgp.NewWriter(conn)
				_ = (&fluent.AckResp{Ack: chunk}).EncodeMsg(w)
				_ = w.Flush()
			}
			got <- m
		}
	}()
	tg := target("fluentd", "fluentd-address", "unix://"+l.Addr().String(), "fluentd-request-ack", "true", "fluentd-sub-second-precision", "true")
	tg.Origin.Tag = "docker.web"
	send(t, tg)
	m := <-got
	record, _ := m.Record.(map[string]any)
	if m.Tag != "docker.web" || !time.Time(m.Time).Equal(at) || record["log"] != "first \x00line" || record["source"] != "stdout" ||
		record["container_name"] != "/web" || record["com.example/role"] != "front" {
		t.Errorf("%+v", m)
	}
	if record, _ := (<-got).Record.(map[string]any); record["source"] != "stderr" {
		t.Errorf("%+v", record)
	}
}

func TestJournalField(t *testing.T) {
	for in, want := range map[string]string{"com.example/role": "COM_EXAMPLE_ROLE", "_x1": "X1", "9a": "A", "ä": "", "A_b": "A_B"} {
		if got := journalField(in); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

func TestCheck(t *testing.T) {
	s, err := New()
	must(t, err)
	for _, bad := range []logs.Target{
		target("syslog", "syslog-address", "http://x"), target("syslog", "syslog-address", "tcp://"), target("syslog", "syslog-address", "unix://"),
		target("syslog", "syslog-facility", "none"), target("syslog", "syslog-facility", "24"), target("syslog", "syslog-format", "rfc1"),
		target("gelf"), target("gelf", "gelf-address", "udp://x:1", "gelf-compression-type", "lz4"), target("gelf", "gelf-address", "tcp://x:1", "gelf-compression-level", "1"),
		target("gelf", "gelf-address", "udp://x:1", "gelf-tcp-max-reconnect", "1"), target("gelf", "gelf-address", "udp://x:1", "gelf-compression-level", "10"),
		target("fluentd", "fluentd-address", "ftp://x"), target("fluentd", "fluentd-async", "perhaps"), target("fluentd", "fluentd-retry-wait", "-1s"),
		target("fluentd", "fluentd-max-retries", "many"), target("journald", "syslog-address", "tcp://x:1"),
	} {
		if err := s.Check(bad.Driver, bad.Options); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s %v: %v", bad.Driver, bad.Options, err)
		}
	}
	if err := s.Check("splunk", nil); !errdefs.IsNotFound(err) || err.Error() != "logger: no log driver named 'splunk' is registered" {
		t.Error(err)
	}
	if _, err := s.Open(context.Background(), target("splunk")); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
}
