package buildsource

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"

	"longshore/internal/core/fault"
)

// errLocal says that an address is the host's own.
var errLocal = errors.New("local address")

// guard dials, but not to the host itself: what a build's request names may be any address, and a server on the outside
// may redirect there or change its name's address between two look-ups. So the address is judged when it is dialled.
type guard struct {
	allowLocal bool
	// own are the host's addresses.
	own func() ([]net.Addr, error)
}

func newGuard(allowLocal bool) *guard {
	return &guard{allowLocal: allowLocal, own: net.InterfaceAddrs}
}

// dial is for http.Transport and our proxy.
func (g *guard) dial(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: 30 * time.Second, Control: g.control}
	return d.DialContext(ctx, network, address)
}

func (g *guard) control(_, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	return g.check(ap.Addr())
}

// check refuses an address of the host.
func (g *guard) check(a netip.Addr) error {
	if g.allowLocal {
		return nil
	}
	a = a.Unmap().WithZone("")
	if a.IsLoopback() || a.IsUnspecified() || a.IsLinkLocalUnicast() || a.IsMulticast() {
		return fmt.Errorf("%s: %w", a, errLocal)
	}
	addrs, err := g.own()
	if err != nil {
		return fmt.Errorf("list the host's addresses: %w", err)
	}
	for _, x := range addrs {
		if n, ok := x.(*net.IPNet); ok && n.IP.Equal(net.IP(a.AsSlice())) {
			return fmt.Errorf("%s: %w", a, errLocal)
		}
	}
	return nil
}

// host refuses a name that leads to the host. It is for programs that look names up themselves.
func (g *guard) host(ctx context.Context, name string) error {
	if g.allowLocal {
		return nil
	}
	list, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
	if err != nil {
		return err
	}
	for _, a := range list {
		if err := g.check(a); err != nil {
			return err
		}
	}
	return nil
}

// refused gives a refusal its words for the client; other errors pass.
func refused(address string, err error) error {
	if errors.Is(err, errLocal) {
		return fault.Invalid("remote %s leads to a local address of the engine's host, which is not allowed (build-allow-local-remotes): %w", address, err)
	}
	return err
}

// transport dials through the guard. A proxy of the environment is trusted: it judges for itself.
func (g *guard) transport() *http.Transport {
	plain := &net.Dialer{Timeout: 30 * time.Second}
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: 30 * time.Second, ResponseHeaderTimeout: time.Minute,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			if isProxy(address) {
				return plain.DialContext(ctx, network, address)
			}
			return g.dial(ctx, network, address)
		},
	}
}

// isProxy tells whether an address is that of a proxy in the environment.
func isProxy(address string) bool {
	for _, scheme := range []string{"http", "https"} {
		u, err := http.ProxyFromEnvironment(&http.Request{URL: &url.URL{Scheme: scheme, Host: "example.invalid"}})
		if err != nil || u == nil {
			continue
		}
		port := u.Port()
		if port == "" {
			port = map[string]string{"http": "80", "https": "443", "socks5": "1080"}[u.Scheme]
		}
		if address == net.JoinHostPort(u.Hostname(), port) {
			return true
		}
	}
	return false
}
