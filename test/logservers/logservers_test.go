// Package logservers sends containers' logs to real log servers: Debian's rsyslog over UDP, TCP and TLS, systemd's journald, and
// peers that speak GELF and fluentd's forward protocol.
package logservers

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"longshore/test/harness"
)

const patience = 30 * time.Second

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// syslogd is rsyslog in the daemon's network: UDP and TCP on 5514, TLS with client certificates on 5515.
type syslogd struct {
	d   *harness.Daemon
	dir string
	cmd *exec.Cmd
}

func newSyslogd(t *testing.T, d *harness.Daemon) *syslogd {
	t.Helper()
	s := &syslogd{d: d, dir: t.TempDir()}
	certificates(t, s.dir)
	conf := fmt.Sprintf(`
global(workDirectory="%[1]s" defaultNetstreamDriver="gtls" defaultNetstreamDriverCAFile="%[1]s/ca.pem"
  defaultNetstreamDriverCertFile="%[1]s/cert.pem" defaultNetstreamDriverKeyFile="%[1]s/key.pem")
module(load="imudp") module(load="imptcp")
module(load="imtcp" streamDriver.name="gtls" streamDriver.mode="1" streamDriver.authMode="x509/certvalid")
input(type="imudp" address="127.0.0.1" port="5514")
input(type="imptcp" address="127.0.0.1" port="5514")
input(type="imtcp" address="127.0.0.1" port="5515")
template(name="raw" type="string" string="%%rawmsg%%\n")
action(type="omfile" file="%[1]s/messages" template="raw")
`, s.dir)
	must(t, os.WriteFile(filepath.Join(s.dir, "conf"), []byte(conf), 0o600))
	t.Cleanup(s.stop)
	return s
}

func (s *syslogd) start() {
	s.d.T.Helper()
	s.cmd = exec.Command("ip", "netns", "exec", s.d.NetNS, "rsyslogd", "-n", "-f", s.dir+"/conf", "-i", s.dir+"/pid")
	s.cmd.Stderr = os.Stderr
	if err := s.cmd.Start(); err != nil {
		s.d.T.Fatal(err)
	}
	harness.Eventually(s.d.T, patience, "rsyslogd listens", func() bool {
		return strings.Contains(s.d.InNet("cat", "/proc/net/tcp").Out, ":158B ")
	})
}

func (s *syslogd) stop() {
	if s.cmd != nil {
		_ = s.cmd.Process.Signal(syscall.SIGTERM)
		_ = s.cmd.Wait()
		s.cmd = nil
	}
}

// messages are those that match, without what comes before the match.
func (s *syslogd) messages(pattern string) []string {
	b, _ := os.ReadFile(filepath.Join(s.dir, "messages"))
	return regexp.MustCompile("(?m)"+pattern+"$").FindAllString(string(b), -1)
}

func (s *syslogd) expect(pattern string, want ...string) {
	s.d.T.Helper()
	var got []string
	harness.Eventually(s.d.T, patience, fmt.Sprintf("%q in the log server", want), func() bool {
		got = s.messages(pattern)
		return slices.Equal(got, want)
	})
}

// certificates makes an authority and a pair that serves both sides.
func certificates(t *testing.T, dir string) {
	t.Helper()
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	must(t, err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, caKey)
	must(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	for name, b := range map[string]*pem.Block{
		"ca.pem": {Type: "CERTIFICATE", Bytes: caDER}, "cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: keyDER},
	} {
		must(t, os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(b), 0o600))
	}
}

// TestSyslog: lines reach a real server over every transport, also those from a time without server or without daemon.
func TestSyslog(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("rsyslogd"); err != nil {
		t.Skip("rsyslogd is not installed: scripts/setup.sh test does it")
	}
	d := harness.Start(t)
	d.Busybox()
	s := newSyslogd(t, d)
	tls := []string{
		"--log-opt", "syslog-tls-ca-cert=" + s.dir + "/ca.pem", "--log-opt", "syslog-tls-cert=" + s.dir + "/cert.pem", "--log-opt", "syslog-tls-key=" + s.dir + "/key.pem",
	}
	run := func(flags ...string) []string {
		return append([]string{"run", "--log-driver", "syslog", "--log-opt", "syslog-format=rfc5424"}, flags...)
	}

	// A server that is not there: the container runs, docker logs shows it, the lines wait.
	d.OK(run("-d", "--name", "early", "--log-opt", "syslog-address=tcp://127.0.0.1:5514", "--log-opt", "tag={{.Name}}",
		"busybox", "sh", "-c", "echo early 1; sleep 1000")...)
	harness.Eventually(t, patience, "local log", func() bool { return d.OK("logs", "early") == "early 1" })
	s.start()
	s.expect("early - early .", "early - early 1")

	for network, address := range map[string]string{"udp": "udp://127.0.0.1:5514", "tcp": "tcp://127.0.0.1:5514", "tls": "tcp+tls://localhost:5515"} {
		flags := []string{"--rm", "--log-opt", "syslog-address=" + address, "--log-opt", "tag=" + network}
		if network == "tls" {
			flags = append(flags, tls...)
		}
		d.OK(run(append(flags, "busybox", "sh", "-c", "echo over "+network+"; seq 50")...)...) // gone at once, its lines are not
		s.expect(network+` - over \w+`, network+" - over "+network)
		harness.Eventually(t, patience, "all lines", func() bool { return len(s.messages(network+` - \d+`)) == 50 })
	}
	d.Fails("invalid syslog facility", run("--log-opt", "syslog-facility=nobody", "busybox", "true")...)
	d.Fails("unknown log opt 'bogus' for syslog log driver", run("--log-opt", "bogus=1", "busybox", "true")...)
	d.Fails("no log driver named 'awslogs' is registered", "run", "--log-driver", "awslogs", "busybox", "true")

	// Server and daemon die while a container writes on; nothing is lost.
	d.OK(run("-d", "--name", "counter", "--log-opt", "syslog-address=tcp://127.0.0.1:5514", "--log-opt", "tag=n",
		"busybox", "sh", "-c", "for i in $(seq 300); do echo $i; usleep 20000; done")...)
	counted := func() (distinct int) {
		seen := map[string]bool{}
		for _, m := range s.messages(`n - \d+`) {
			seen[m] = true
		}
		return len(seen)
	}
	harness.Eventually(t, patience, "first lines", func() bool { return counted() > 10 })
	d.Kill()
	d.Up()
	at := counted()
	harness.Eventually(t, patience, "more lines after the daemon's death", func() bool { return counted() > at })
	harness.Eventually(t, 2*patience, "every line", func() bool { return counted() == 300 })
	if log := d.OK("logs", "--tail", "1", "counter"); log != "300" {
		t.Errorf("local log ends with %q", log)
	}
	d.OK("rm", "-f", "early", "counter")
}

// TestDeadServer: removal does not wait for ever, and cache-disabled turns docker logs off.
func TestDeadServer(t *testing.T) {
	t.Parallel()
	d := harness.Start(t, "--log-driver", "gelf", "--log-opt", "gelf-address=tcp://127.0.0.1:9")
	d.Busybox()
	if out := d.OK("info", "--format", "{{.LoggingDriver}}"); out != "gelf" {
		t.Errorf("info: %s", out)
	}
	id := strings.TrimSpace(d.OK("run", "-d", "--log-opt", "cache-disabled=true", "busybox", "echo", "x"))
	d.OK("wait", id)
	d.Fails("configured logging driver does not support reading", "logs", id)
	if out := d.OK("inspect", "-f", "{{.HostConfig.LogConfig.Type}} {{.LogPath}}", id); out != "gelf" {
		t.Errorf("inspect: %q", out)
	}
	d.OK("rm", id)
	if out := d.OK("run", "--rm", "busybox", "echo", "seen"); out != "seen" {
		t.Error(out)
	}
}
