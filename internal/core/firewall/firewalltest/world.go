package firewalltest

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// world is a host with two bridges, two containers on the first (c1, c1b) and one on the second (c2), another host (out) on
// an interface "wan", and a third (far) behind "lan". Each answers TCP at ports 80 and 81 with its name; the hosts add who
// asks.
type world struct{ t *testing.T }

func newWorld(t *testing.T) *world {
	w := &world{t}
	t.Cleanup(func() {
		w.t = t
		w.sh("for c in c1 c1b c2 out far; do ip netns del $c; done; for l in vc1 vc1b vc2 wan lan br1 br2; do ip link del $l 2>/dev/null || true; done")
	})
	w.sh(`
ip link add br1 type bridge; ip addr add 10.1.0.1/24 dev br1; ip -6 addr add fd00:1::1/64 dev br1 nodad; ip link set br1 up
ip link add br2 type bridge; ip addr add 10.2.0.1/24 dev br2; ip -6 addr add fd00:2::1/64 dev br2 nodad; ip link set br2 up
for b in br1 br2; do echo 1 >/proc/sys/net/ipv4/conf/$b/route_localnet; done
plug() {
	ip netns add $1; ip -n $1 link set lo up
	ip link add v$1 type veth peer name eth0 netns $1
	[ $2 = - ] || ip link set v$1 master $2
	[ $2 = - ] || ip link set v$1 type bridge_slave hairpin on
	ip link set v$1 up; ip -n $1 addr add $3 dev eth0; ip -n $1 -6 addr add $4 dev eth0 nodad
	ip -n $1 link set eth0 up; ip -n $1 route add default via $5; ip -n $1 -6 route add default via $6
}
plug c1 br1 10.1.0.2/24 fd00:1::2/64 10.1.0.1 fd00:1::1
plug c1b br1 10.1.0.3/24 fd00:1::3/64 10.1.0.1 fd00:1::1
plug c2 br2 10.2.0.2/24 fd00:2::2/64 10.2.0.1 fd00:2::1
ip netns add out; ip -n out link set lo up; ip link add wan type veth peer name eth0 netns out
ip addr add 192.0.2.1/24 dev wan; ip addr add 192.0.2.77/24 dev wan; ip -6 addr add 2001:db8::1/64 dev wan nodad; ip link set wan up
ip -n out addr add 192.0.2.9/24 dev eth0; ip -n out -6 addr add 2001:db8::9/64 dev eth0 nodad; ip -n out link set eth0 up
ip -n out route add default via 192.0.2.1; ip -n out -6 route add default via 2001:db8::1
ip netns add far; ip -n far link set lo up; ip link add lan type veth peer name eth0 netns far
ip addr add 198.51.100.1/24 dev lan; ip link set lan up
ip -n far addr add 198.51.100.2/24 dev eth0; ip -n far link set eth0 up; ip -n far route add default via 198.51.100.1`)
	for _, name := range []string{"c1", "c1b", "c2", "out", "far"} {
		for _, port := range []string{"80", "81"} {
			w.serve(t, name, port)
		}
	}
	return w
}

// sh runs a shell command on the host.
func (w *world) sh(command string) {
	w.t.Helper()
	if out, err := exec.Command("sh", "-ec", command).CombinedOutput(); err != nil {
		w.t.Fatalf("%s: %v\n%s", command, err, out)
	}
}

// in runs f on a thread inside of a namespace; "" is the host. The thread comes back, since the first one of a process
// never ends and would keep the namespace.
func in(name string, f func() error) error {
	if name == "" {
		return f()
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			done <- err
			return
		}
		defer home.Close()
		space, err := os.Open("/run/netns/" + name)
		if err == nil {
			defer space.Close()
			err = unix.Setns(int(space.Fd()), unix.CLONE_NEWNET)
		}
		if err == nil {
			err = f()
		}
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// serve answers at a port until the test ends.
func (w *world) serve(t *testing.T, name, port string) {
	var l net.Listener
	err := in(name, func() (err error) {
		l, err = net.Listen("tcp", ":"+port)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			answer := name
			if name == "out" || name == "far" {
				answer += " " + conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap().String()
			}
			_, _ = io.WriteString(conn, answer)
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
}

// ask is what an address answers, empty when it does not.
func (w *world) ask(from, address string, limit time.Duration) string {
	var conn net.Conn
	err := in(from, func() (err error) {
		conn, err = net.DialTimeout("tcp", address, limit)
		return err
	})
	if err != nil {
		return ""
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(limit))
	b, _ := io.ReadAll(conn)
	return string(b)
}

// limit is how long anything may take that is only waited for; short is for answers that must not come.
const (
	limit = 30 * time.Second
	short = 100 * time.Millisecond
)

func (w *world) reach(from, address, want string) {
	w.t.Helper()
	if got := w.ask(from, address, limit/3); got != want {
		w.t.Errorf("%s from %s: %q, want %q\n%s", address, orHost(from), got, want, w.rules())
	}
}

func (w *world) closed(from, address string) {
	w.t.Helper()
	if got := w.ask(from, address, short); got != "" {
		w.t.Errorf("%s from %s: %q, want nothing\n%s", address, orHost(from), got, w.rules())
	}
}

func orHost(name string) string {
	if name == "" {
		return "the host"
	}
	return name
}

// rules is what is in force, for those who have to find out why.
func (w *world) rules() string {
	if os.Getenv("LONGSHORE_SHOW_RULES") == "" {
		return ""
	}
	out, _ := exec.Command("sh", "-c", "nft list ruleset; iptables-legacy-save").CombinedOutput()
	return string(out)
}

// loopbackFromOutside sends packets for the host's loopback from another host, which must not get anywhere.
func (w *world) loopbackFromOutside(address string) {
	w.t.Helper()
	host, _, _ := strings.Cut(address, ":")
	w.sh(fmt.Sprintf("ip netns exec out ip route add table local local 127.0.0.5/32 dev lo 2>/dev/null || true; ip -n out route del table local 127.0.0.0/8 dev lo; ip -n out route del table local %[1]s dev lo; ip -n out route add %[1]s via 192.0.2.1; echo 1 >/proc/sys/net/ipv4/conf/all/route_localnet", host))
	w.closed("out", address)
	w.sh(fmt.Sprintf("ip -n out route del %s via 192.0.2.1; echo 0 >/proc/sys/net/ipv4/conf/all/route_localnet", host))
}

// separate makes the ports of br1 talk to the host only, which answers for them.
func (w *world) separate(on bool) {
	w.t.Helper()
	onoff, flag := "off", 0
	if on {
		onoff, flag = "on", 1
	}
	w.sh(fmt.Sprintf("for v in vc1 vc1b; do ip link set $v type bridge_slave isolated %s; done; echo %d >/proc/sys/net/ipv4/conf/br1/proxy_arp_pvlan; for c in c1 c1b; do ip -n $c neigh flush all; done", onoff, flag))
}

// eventually polls until ok.
func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(limit); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			w.t.Fatalf("not within %v: %s\n%s", limit, what, w.rules())
		}
	}
}
