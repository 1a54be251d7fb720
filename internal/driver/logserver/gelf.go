package logserver

import (
	"bytes"
	"compress/flate"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/Graylog2/go-gelf/gelf"

	"longshore/internal/core/fault"
	"longshore/internal/core/logs"
)

var gelfOptions = []string{
	"gelf-address", "gelf-compression-type", "gelf-compression-level", "gelf-tcp-max-reconnect", "gelf-tcp-reconnect-delay",
}

func checkGELF(options map[string]string) error {
	if options["gelf-address"] == "" {
		return fault.Invalid("gelf-address is a required parameter")
	}
	e, err := parseEndpoint("gelf-address", options["gelf-address"], "12201", "udp", "tcp")
	if err != nil {
		return err
	}
	for _, k := range []string{"gelf-compression-type", "gelf-compression-level"} {
		if _, ok := options[k]; ok && e.network == "tcp" {
			return fault.Invalid("compression is only supported on UDP")
		}
	}
	for _, k := range []string{"gelf-tcp-max-reconnect", "gelf-tcp-reconnect-delay"} {
		if _, ok := options[k]; ok && e.network == "udp" {
			return fault.Invalid("%q option is only valid for TCP", k)
		}
	}
	if _, err := gelfCompression(options["gelf-compression-type"]); err != nil {
		return err
	}
	if _, err := gelfLevel(options["gelf-compression-level"]); err != nil {
		return err
	}
	return checkInt(options, "gelf-tcp-max-reconnect", "gelf-tcp-reconnect-delay")
}

func gelfCompression(name string) (gelf.CompressType, error) {
	switch name {
	case "", "gzip":
		return gelf.CompressGzip, nil
	case "zlib":
		return gelf.CompressZlib, nil
	case "none":
		return gelf.CompressNone, nil
	}
	return 0, fault.Invalid("gelf: unknown compression type %s", name)
}

func gelfLevel(text string) (int, error) {
	if text == "" {
		return flate.BestSpeed, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < flate.DefaultCompression || n > flate.BestCompression {
		return 0, fault.Invalid("gelf: unknown value %s for gelf-compression-level", text)
	}
	return n, nil
}

// gelfSink sends GELF 1.1: chunked datagrams, or null-terminated messages over TCP.
type gelfSink struct {
	host  string
	extra json.RawMessage
	udp   *gelf.UDPWriter
	tcp   net.Conn
	gone  <-chan struct{}
}

func openGELF(ctx context.Context, host string, t logs.Target) (logs.Sink, error) {
	e, err := parseEndpoint("gelf-address", t.Options["gelf-address"], "12201", "udp", "tcp")
	if err != nil {
		return nil, err
	}
	s := &gelfSink{host: host}
	if s.extra, err = gelfExtra(t.Origin); err != nil {
		return nil, err
	}
	if e.network == "tcp" {
		var d net.Dialer
		if s.tcp, err = d.DialContext(ctx, "tcp", e.address); err != nil {
			return nil, fmt.Errorf("gelf: %w", err)
		}
		s.gone = watchHangUp(s.tcp)
		return s, nil
	}
	if s.udp, err = gelf.NewUDPWriter(e.address); err != nil {
		return nil, fmt.Errorf("gelf: cannot connect to GELF endpoint: %s %w", e.address, err)
	}
	if s.udp.CompressionType, err = gelfCompression(t.Options["gelf-compression-type"]); err != nil {
		return nil, err
	}
	s.udp.CompressionLevel, err = gelfLevel(t.Options["gelf-compression-level"])
	return s, err
}

// gelfExtra are docker's additional fields.
func gelfExtra(o logs.Origin) (json.RawMessage, error) {
	extra := map[string]any{
		"_container_id": o.ID, "_container_name": strings.TrimPrefix(o.Name, "/"), "_image_id": o.ImageID, "_image_name": o.ImageName,
		"_command": o.Command, "_tag": tagOr(o), "_created": o.Created,
	}
	for k, v := range o.Attrs {
		if k[0] != '_' {
			k = "_" + k
		}
		extra[k] = v
	}
	return json.Marshal(extra)
}

// Send implements logs.Sink.
func (s *gelfSink) Send(_ context.Context, lines []logs.Line) error {
	if s.gone != nil {
		select {
		case <-s.gone:
			return fmt.Errorf("gelf: %s hung up", s.tcp.RemoteAddr())
		default:
		}
	}
	for _, l := range lines {
		m := &gelf.Message{
			Version: "1.1", Host: s.host, Short: string(l.Text), TimeUnix: float64(l.Time.UnixMilli()) / 1000, Level: severityInfo, RawExtra: s.extra,
		}
		if l.Stream == logs.Stderr {
			m.Level = severityError
		}
		if len(m.Short) == 0 {
			continue // a message without text is none in GELF
		}
		if err := s.send(m); err != nil {
			return fmt.Errorf("gelf: %w", err)
		}
	}
	return nil
}

func (s *gelfSink) send(m *gelf.Message) error {
	if s.udp != nil {
		return s.udp.WriteMessage(m)
	}
	text, err := encodeGELF(m)
	if err != nil {
		return err
	}
	if err := s.tcp.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return err
	}
	_, err = s.tcp.Write(append(text, 0))
	return err
}

// Close implements logs.Sink.
func (s *gelfSink) Close() error {
	if s.udp != nil {
		return s.udp.Close()
	}
	err := s.tcp.Close()
	<-s.gone
	return err
}

// encodeGELF is the library's encoding with the additional fields.
func encodeGELF(m *gelf.Message) ([]byte, error) {
	var b bytes.Buffer
	err := m.MarshalJSONBuf(&b)
	return b.Bytes(), err
}
