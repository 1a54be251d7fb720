package logservers

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/Graylog2/go-gelf/gelf"
	"github.com/fluent/fluent-logger-golang/fluent"
	"github.com/tinylib/msgp/msgp"
	"golang.org/x/sys/unix"

	"longshore/test/harness"
)

// inside calls f on a thread in the daemon's network.
func inside[T any](d *harness.Daemon, f func() (T, error)) T {
	d.T.Helper()
	type answer struct {
		v   T
		err error
	}
	done := make(chan answer, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		fd, err := unix.Open("/run/netns/"+d.NetNS, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			defer unix.Close(fd)
			err = unix.Setns(fd, unix.CLONE_NEWNET)
		}
		var a answer
		if err == nil {
			a.v, err = f()
		}
		a.err = err
		done <- a
	}()
	a := <-done
	must(d.T.(*testing.T), a.err)
	return a.v
}

// inbox is what has come to a server, each once.
type inbox struct {
	mu   sync.Mutex
	seen map[string]bool
}

func (b *inbox) add(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.seen == nil {
		b.seen = map[string]bool{}
	}
	b.seen[text] = true
}

func (b *inbox) all() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Sorted(maps.Keys(b.seen))
}

// counted tells whether exactly the numbers of 1 to n have come.
func (b *inbox) counted(n int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range n {
		if !b.seen[strconv.Itoa(i+1)] {
			return false
		}
	}
	return len(b.seen) == n
}

func (b *inbox) size() int { return len(b.all()) }

// server accepts connections at an address of the daemon's network and can go away and come back.
type server struct {
	d      *harness.Daemon
	addr   string
	handle func(net.Conn)
	l      net.Listener
	mu     sync.Mutex
	conns  []net.Conn
	done   sync.WaitGroup
}

func newServer(d *harness.Daemon, handle func(net.Conn)) *server {
	l := d.Listen()
	s := &server{d: d, addr: l.Addr().String(), handle: handle}
	s.serve(l)
	d.T.Cleanup(s.down)
	return s
}

func (s *server) up() {
	s.d.T.Helper()
	s.serve(inside(s.d, func() (net.Listener, error) { return net.Listen("tcp4", s.addr) }))
}

func (s *server) serve(l net.Listener) {
	s.l = l
	s.done.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns = append(s.conns, c)
			s.mu.Unlock()
			s.done.Go(func() {
				defer c.Close()
				s.handle(c)
			})
		}
	})
}

func (s *server) down() {
	_ = s.l.Close()
	s.mu.Lock()
	for _, c := range s.conns {
		_ = c.Close()
	}
	s.conns = nil
	s.mu.Unlock()
	s.done.Wait()
}

// chosen are a container's label, variable and the options that pick them.
var chosen = []string{
	"--label", "team=blue", "--label", "com.example.role=front", "--label", "other=x", "-e", "STAGE=test", "-e", "SECRET=y", "--log-opt", "labels=team",
	"--log-opt", "labels-regex=^com", "--log-opt", "env=STAGE", "--log-opt", "tag={{upper .Name}}/{{.ImageName}}/{{index .ContainerLabels \"other\"}}",
}

// numbers writes the numbers up to n, slowly.
func numbers(n int) []string {
	return []string{"busybox", "sh", "-c", fmt.Sprintf("for i in $(seq %d); do echo $i; usleep 10000; done", n)}
}

// TestGELF: docker's fields arrive over UDP, in parts if need be, and over TCP, where nothing is lost.
func TestGELF(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	t.Run("UDP", func(t *testing.T) {
		r := inside(d, func() (*gelf.Reader, error) { return gelf.NewReader("127.0.0.1:0") })
		for _, compression := range []string{"gzip", "zlib", "none"} {
			args := append([]string{"run", "--rm", "--name", "g-" + compression, "--log-driver", "gelf", "--log-opt", "gelf-address=udp://" + r.Addr(), "--log-opt", "gelf-compression-type=" + compression}, chosen...)
			out := d.OK(append(args, "busybox", "sh", "-c", "echo to $STAGE; head -c 30000 /dev/urandom | base64 -w 0; echo; echo wrong >&2")...)
			got := map[string]*gelf.Message{}
			for range 3 {
				m, err := r.ReadMessage()
				must(t, err)
				got[m.Short] = m
			}
			m := got["to test"]
			if m == nil || m.Level != 6 || m.Version != "1.1" || got["wrong"] == nil || got["wrong"].Level != 3 {
				t.Fatalf("%s: %v", compression, got)
			}
			long := slices.SortedFunc(maps.Keys(got), func(a, b string) int { return len(b) - len(a) })[0]
			if len(long) != 40000 || !strings.Contains(out, long) {
				t.Errorf("%s: the long line has %d bytes", compression, len(long))
			}
			for field, want := range map[string]any{
				"_container_name": "g-" + compression, "_image_name": "busybox", "_tag": "G-" + strings.ToUpper(compression) + "/busybox/x",
				"_team": "blue", "_com.example.role": "front", "_STAGE": "test", "_SECRET": nil, "_other": nil,
			} {
				if m.Extra[field] != want {
					t.Errorf("%s: %s is %v, want %v", compression, field, m.Extra[field], want)
				}
			}
			if id, _ := m.Extra["_container_id"].(string); len(id) != 64 || m.Extra["_image_id"] == nil || m.Extra["_command"] == nil || m.Extra["_created"] == nil {
				t.Errorf("%s: %v", compression, m.Extra)
			}
		}
	})
	t.Run("TCP", func(t *testing.T) {
		var in inbox
		s := newServer(d, func(c net.Conn) {
			r := bufio.NewReader(c)
			for {
				text, err := r.ReadBytes(0)
				if err != nil {
					return
				}
				var m struct {
					Short string `json:"short_message"`
				}
				if json.Unmarshal(text[:len(text)-1], &m) == nil {
					in.add(m.Short)
				}
			}
		})
		interrupted(d, s, &in, "--log-driver", "gelf", "--log-opt", "gelf-address=tcp://"+s.addr)
	})
}

// interrupted has a container write while its server and the daemon go away and come back.
func interrupted(d *harness.Daemon, s *server, in *inbox, args ...string) {
	d.T.Helper()
	const n = 250
	args = append(append([]string{"run", "-d", "--name", "counter"}, args...), numbers(n)...)
	d.OK(args...)
	harness.Eventually(d.T, patience, "first lines", func() bool { return in.size() > 5 })
	s.down()
	d.Kill()
	d.Up()
	s.up()
	at := in.size()
	harness.Eventually(d.T, 2*patience, "lines after that", func() bool { return in.size() > at })
	harness.Eventually(d.T, 2*patience, "the end", func() bool { return in.counted(n) || slices.Contains(in.all(), strconv.Itoa(n)) })
	if log := strings.Fields(d.OK("logs", "counter")); len(log) != n || log[n-1] != strconv.Itoa(n) {
		d.T.Errorf("docker logs has %d lines", len(log))
	}
	if got := in.size(); !in.counted(n) {
		// What the kernel took for a server that was about to end is the only thing that may be missing, where the protocol has no acknowledgement.
		if !slices.Contains(args, "--log-driver=fluentd") && n-got <= 50 {
			d.T.Logf("%d of %d lines", got, n)
		} else {
			d.T.Errorf("%d of %d lines arrived", got, n)
		}
	}
	d.OK("rm", "-f", "counter")
}

// message reads one of the forward protocol: its time is in seconds, or an extension that knows the parts of a second.
func message(r *msgp.Reader) (m fluent.MessageExt, err error) {
	n, err := r.ReadArrayHeader()
	if err != nil {
		return m, err
	}
	if m.Tag, err = r.ReadString(); err != nil {
		return m, err
	}
	if kind, _ := r.NextType(); kind == msgp.ExtensionType {
		err = r.ReadExtension(&m.Time)
	} else {
		var seconds int64
		seconds, err = r.ReadInt64()
		m.Time = fluent.EventTime(time.Unix(seconds, 0))
	}
	if err == nil {
		m.Record, err = r.ReadIntf()
	}
	if err != nil || n < 4 {
		return m, err
	}
	options, err := r.ReadIntf()
	m.Option = map[string]string{}
	if o, ok := options.(map[string]any); ok {
		for k, v := range o {
			m.Option[k], _ = v.(string)
		}
	}
	return m, err
}

// TestFluentd speaks fluentd's forward protocol, with acknowledgements and without, over TCP and TLS.
func TestFluentd(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certificates(t, dir)
	pair, err := tls.LoadX509KeyPair(dir+"/cert.pem", dir+"/key.pem")
	must(t, err)
	d := harness.New(t)
	d.Env = []string{"SSL_CERT_FILE=" + dir + "/ca.pem"} // whom the daemon trusts
	d.Up()
	d.Busybox()
	var in inbox
	var mu sync.Mutex
	var last fluent.MessageExt
	forgetful := true // the first connection takes a message and says nothing
	forward := func(c net.Conn) {
		r, w := msgp.NewReader(c), msgp.NewWriter(c)
		for {
			m, err := message(r)
			if err != nil {
				if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
					d.T.Logf("fluentd's peer: %v", err)
				}
				return
			}
			mu.Lock()
			quit := forgetful
			forgetful = false
			mu.Unlock()
			if quit {
				return
			}
			record, _ := m.Record.(map[string]any)
			text, _ := record["log"].(string)
			if chunk, ok := m.Option["chunk"]; ok {
				if (&fluent.AckResp{Ack: chunk}).EncodeMsg(w) != nil || w.Flush() != nil {
					return
				}
			}
			mu.Lock()
			last = m
			mu.Unlock()
			in.add(text)
		}
	}
	s := newServer(d, forward)
	interrupted(d, s, &in, "--log-driver=fluentd", "--log-opt", "fluentd-address="+s.addr, "--log-opt", "fluentd-request-ack=true")

	secure := newServer(d, func(c net.Conn) { forward(tls.Server(c, &tls.Config{Certificates: []tls.Certificate{pair}})) })
	for _, more := range [][]string{
		{"fluentd-address=tcp://" + s.addr}, {"fluentd-address=" + s.addr, "fluentd-async=true", "fluentd-sub-second-precision=true"},
		{"fluentd-address=tls://" + secure.addr, "fluentd-request-ack=true", "fluentd-sub-second-precision=1", "fluentd-write-timeout=20s"},
	} {
		began := time.Now().Add(-time.Second)
		args := []string{"run", "--rm", "--name", "web", "--log-driver", "fluentd"}
		for _, o := range more {
			args = append(args, "--log-opt", o)
		}
		text := "said " + strconv.Itoa(len(more))
		d.OK(append(append(args, chosen...), "busybox", "sh", "-c", "echo "+text+" >&2")...)
		harness.Eventually(t, patience, text, func() bool { return slices.Contains(in.all(), text) })
		mu.Lock()
		m := last
		mu.Unlock()
		record, _ := m.Record.(map[string]any)
		if m.Tag != "WEB/busybox/x" || time.Time(m.Time).Before(began) || time.Since(time.Time(m.Time)) > time.Minute {
			t.Errorf("tag %s, time %v", m.Tag, m.Time)
		}
		for field, want := range map[string]any{
			"container_name": "/web", "source": "stderr", "team": "blue", "com.example.role": "front", "STAGE": "test", "SECRET": nil, "other": nil,
		} {
			if record[field] != want {
				t.Errorf("%s is %v, want %v", field, record[field], want)
			}
		}
		if id, _ := record["container_id"].(string); len(id) != 64 {
			t.Errorf("container_id is %v", record["container_id"])
		}
	}
}

// journald starts the real one with a journal of its own and gives the arguments that journalctl needs; on a host where one
// runs, that one is used and not started again.
func journald(t *testing.T) (args []string, start, stop func()) {
	t.Helper()
	const program, socket = "/lib/systemd/systemd-journald", "/run/systemd/journal/socket"
	if _, err := exec.LookPath("journalctl"); err != nil {
		t.Skip("journalctl is not installed")
	}
	if c, err := net.Dial("unixgram", socket); err == nil {
		_ = c.Close()
		return nil, func() {}, func() {}
	}
	if _, err := os.Stat(program); err != nil {
		t.Skip("systemd-journald is not installed")
	}
	dir := t.TempDir()
	conf := filepath.Join(dir, "conf")
	must(t, os.WriteFile(conf, []byte("[Journal]\nStorage=volatile\nAudit=no\nReadKMsg=no\nForwardToSyslog=no\nForwardToWall=no\nRateLimitBurst=0\n"), 0o644))
	if _, err := os.Stat("/run/systemd/journal"); err != nil {
		t.Cleanup(func() { _ = os.RemoveAll("/run/systemd/journal") })
	}
	var cmd *exec.Cmd
	stop = func() {
		if cmd != nil {
			_ = cmd.Process.Signal(syscall.SIGTERM)
			_ = cmd.Wait()
			cmd = nil
		}
	}
	start = func() {
		t.Helper()
		cmd = exec.Command("unshare", "-m", "sh", "-ec", `mount --make-rprivate /
mkdir -p /run/log "$0/log"
mount --bind "$0/log" /run/log
mount --bind "$0/conf" /etc/systemd/journald.conf
exec `+program, dir)
		cmd.Stderr = os.Stderr
		must(t, cmd.Start())
		harness.Eventually(t, patience, "journald listens", func() bool {
			c, err := net.Dial("unixgram", socket)
			if err == nil {
				_ = c.Close()
			}
			return err == nil
		})
	}
	t.Cleanup(stop)
	return []string{"-D", filepath.Join(dir, "log", "journal")}, start, stop
}

// TestJournald: docker's fields are in the journal, and lines of a time without journald come later.
func TestJournald(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	where, start, stop := journald(t)
	start()
	entries := func(id string) (out []map[string]any) {
		text, _ := exec.Command("journalctl", append(where, "-q", "-o", "json", "CONTAINER_ID_FULL="+id)...).Output()
		for dec := json.NewDecoder(strings.NewReader(string(text))); ; {
			e := map[string]any{}
			if dec.Decode(&e) != nil {
				return out
			}
			out = append(out, e)
		}
	}
	args := append([]string{"run", "-d", "--name", "jo", "--log-driver", "journald"}, chosen...)
	id := d.OK(append(args, "busybox", "sh", "-c", "echo good; echo bad >&2; sleep 600")...)
	harness.Eventually(t, patience, "both lines", func() bool { return len(entries(id)) == 2 })
	for _, e := range entries(id) {
		priority := map[any]string{"good": "6", "bad": "3"}[e["MESSAGE"]]
		for field, want := range map[string]any{
			"PRIORITY": priority, "CONTAINER_NAME": "jo", "CONTAINER_ID": id[:12], "CONTAINER_TAG": "JO/busybox/x", "SYSLOG_IDENTIFIER": "JO/busybox/x", "IMAGE_NAME": "busybox",
			"TEAM": "blue", "COM_EXAMPLE_ROLE": "front", "STAGE": "test", "SECRET": nil, "OTHER": nil,
		} {
			if e[field] != want {
				t.Errorf("%v: %s is %v, want %v", e["MESSAGE"], field, e[field], want)
			}
		}
	}
	stop()
	late := d.OK(append([]string{"run", "-d", "--name", "late", "--log-driver", "journald"}, numbers(20)...)...)
	d.OK("wait", "late")
	if log := d.OK("logs", "--tail", "1", "late"); log != "20" {
		t.Errorf("docker logs ends with %q", log)
	}
	d.Kill()
	d.Up()
	start()
	harness.Eventually(t, 2*patience, "lines of a time without journald", func() bool { return len(entries(late)) >= 20 })
	d.OK("rm", "-f", "jo", "late")
}

// TestSlowServer: a server that takes nothing holds up no container, in any mode, and what was written can be read.
func TestSlowServer(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	l := d.Listen() // the kernel accepts, and nobody reads
	for mode, opts := range map[string][]string{
		"": nil, "blocking": {"--log-opt", "mode=blocking"}, "non-blocking": {"--log-opt", "mode=non-blocking", "--log-opt", "max-buffer-size=64k"},
	} {
		name := "slow-" + mode
		args := append([]string{"run", "-d", "--name", name, "--log-driver", "syslog", "--log-opt", "syslog-address=tcp://" + l.Addr().String()}, opts...)
		d.OK(append(args, "busybox", "seq", "1", "300000")...)
		if out := d.OK("wait", name); out != "0" {
			t.Errorf("mode %q: exit %s", mode, out)
		}
		if log := d.OK("logs", "--tail", "1", name); log != "300000" {
			t.Errorf("mode %q: docker logs ends with %q", mode, log)
		}
	}
	d.Fails("logger: max-buffer-size option is only supported with 'mode=non-blocking'", "run", "--rm", "--log-opt", "max-buffer-size=1m", "busybox", "true")
	d.Fails("error parsing option max-buffer-size", "run", "--rm", "--log-opt", "max-buffer-size=much", "--log-opt", "mode=non-blocking", "busybox", "true")
	d.Fails("logger: logging mode not supported: odd", "run", "--rm", "--log-opt", "mode=odd", "busybox", "true")
}
