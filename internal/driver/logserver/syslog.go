package logserver

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"longshore/internal/core/fault"
	"longshore/internal/core/logs"
)

var syslogOptions = []string{
	"syslog-address", "syslog-facility", "syslog-format", "syslog-tls-ca-cert", "syslog-tls-cert", "syslog-tls-key", "syslog-tls-skip-verify",
}

// facilities by name: RFC 5424, table 1.
var facilities = map[string]int{
	"kern": 0, "user": 1, "mail": 2, "daemon": 3, "auth": 4, "syslog": 5, "lpr": 6, "news": 7, "uucp": 8, "cron": 9, "authpriv": 10, "ftp": 11,
	"local0": 16, "local1": 17, "local2": 18, "local3": 19, "local4": 20, "local5": 21, "local6": 22, "local7": 23,
}

const (
	severityError = 3
	severityInfo  = 6
	tlsNetwork    = "tcp+tls"
)

func checkSyslog(options map[string]string) error {
	if _, err := syslogEndpoint(options); err != nil {
		return err
	}
	if _, err := facility(options["syslog-facility"]); err != nil {
		return err
	}
	switch options["syslog-format"] {
	case "", "rfc3164", "rfc5424", "rfc5424micro":
	default:
		return fault.Invalid("Invalid syslog format")
	}
	return nil
}

func syslogEndpoint(options map[string]string) (endpoint, error) {
	if options["syslog-address"] == "" {
		return endpoint{}, nil // this host's
	}
	return parseEndpoint("syslog-address", options["syslog-address"], "514", "udp", "tcp", tlsNetwork, "unix", "unixgram")
}

func facility(name string) (int, error) {
	if name == "" {
		return facilities["daemon"], nil
	}
	if f, ok := facilities[name]; ok {
		return f, nil
	}
	if f, err := strconv.Atoi(name); err == nil && f >= 0 && f <= 23 {
		return f, nil
	}
	return 0, fault.Invalid("invalid syslog facility")
}

// syslogSink writes messages as RFC 3164 or RFC 5424 says, framed by newlines on streams and, with TLS and RFC 5424, by
// octet counts (RFC 5425).
type syslogSink struct {
	conn     net.Conn
	gone     <-chan struct{} // closed when the server hung up
	facility int
	format   string
	datagram bool
	counted  bool
	host     string
	tag      string
	buf      bytes.Buffer
}

func openSyslog(ctx context.Context, host string, t logs.Target) (logs.Sink, error) {
	e, err := syslogEndpoint(t.Options)
	if err != nil {
		return nil, err
	}
	conn, err := dialSyslog(ctx, e, t.Options)
	if err != nil {
		return nil, fmt.Errorf("syslog: %w", err)
	}
	s := &syslogSink{conn: conn, format: t.Options["syslog-format"], host: host, tag: tagOr(t.Origin)}
	s.facility, err = facility(t.Options["syslog-facility"])
	network := conn.LocalAddr().Network()
	s.datagram = network == "udp" || network == "unixgram"
	s.counted = e.network == tlsNetwork && strings.HasPrefix(s.format, "rfc5424")
	if !s.datagram {
		s.gone = watchHangUp(conn)
	}
	return s, err
}

func dialSyslog(ctx context.Context, e endpoint, options map[string]string) (net.Conn, error) {
	var d net.Dialer
	switch e.network {
	case "":
		var last error
		for _, path := range []string{"/dev/log", "/var/run/syslog", "/var/run/log"} {
			for _, network := range []string{"unixgram", "unix"} {
				c, err := d.DialContext(ctx, network, path)
				if err == nil {
					return c, nil
				}
				last = err
			}
		}
		return nil, last
	case tlsNetwork:
		cfg, err := syslogTLS(options)
		if err != nil {
			return nil, err
		}
		return (&tls.Dialer{Config: cfg}).DialContext(ctx, "tcp", e.address)
	}
	return d.DialContext(ctx, e.network, e.address)
}

func syslogTLS(options map[string]string) (*tls.Config, error) {
	_, skip := options["syslog-tls-skip-verify"] // docker looks at its presence only
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: skip}
	if ca := options["syslog-tls-ca-cert"]; ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, err
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", ca)
		}
	}
	if cert, key := options["syslog-tls-cert"], options["syslog-tls-key"]; cert != "" || key != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, err
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}

// Send implements logs.Sink.
func (s *syslogSink) Send(_ context.Context, lines []logs.Line) error {
	if s.gone != nil {
		select {
		case <-s.gone:
			return fmt.Errorf("syslog: %s hung up", s.conn.RemoteAddr())
		default:
		}
	}
	if err := s.conn.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return err
	}
	s.buf.Reset()
	for _, l := range lines {
		m := s.message(l)
		switch {
		case s.datagram:
			if _, err := s.conn.Write(m); err != nil {
				return fmt.Errorf("syslog: %w", err)
			}
			continue
		case s.counted:
			fmt.Fprintf(&s.buf, "%d %s", len(m), m)
		default:
			s.buf.Write(m)
			s.buf.WriteByte('\n')
		}
	}
	if _, err := s.conn.Write(s.buf.Bytes()); s.buf.Len() > 0 && err != nil {
		return fmt.Errorf("syslog: %w", err)
	}
	return nil
}

// message is one line in the chosen format, with the line's own time.
func (s *syslogSink) message(l logs.Line) []byte {
	severity := severityInfo
	if l.Stream == logs.Stderr {
		severity = severityError
	}
	pri, pid := s.facility*8+severity, os.Getpid()
	switch s.format {
	case "rfc5424":
		return fmt.Appendf(nil, "<%d>1 %s %s %s %d %s - %s", pri, l.Time.Format(time.RFC3339), s.host, s.tag, pid, s.tag, l.Text)
	case "rfc5424micro":
		return fmt.Appendf(nil, "<%d>1 %s %s %s %d %s - %s", pri, l.Time.Format("2006-01-02T15:04:05.000000Z07:00"), s.host, s.tag, pid, s.tag, l.Text)
	case "rfc3164":
		return fmt.Appendf(nil, "<%d>%s %s %s[%d]: %s", pri, l.Time.Local().Format(time.Stamp), s.host, s.tag, pid, l.Text)
	}
	// a local syslog adds the host's name itself
	return fmt.Appendf(nil, "<%d>%s %s[%d]: %s", pri, l.Time.Local().Format(time.Stamp), s.tag, pid, l.Text)
}

// Close implements logs.Sink.
func (s *syslogSink) Close() error {
	err := s.conn.Close()
	if s.gone != nil {
		<-s.gone
	}
	return err
}

// watchHangUp reads what a log server never sends; the end of that is the server's end.
func watchHangUp(conn net.Conn) <-chan struct{} {
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		var b [256]byte
		for {
			if _, err := conn.Read(b[:]); err != nil {
				return
			}
		}
	}()
	return gone
}
