// Package listener opens the daemon's sockets from dockerd's -H syntax.
package listener

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/coreos/go-systemd/v22/activation"

	"longshore/internal/core/fault"
)

// Listen opens one host: unix://path, tcp://address:port (port 2375 by default, 2376 with TLS) or fd:// (systemd socket
// activation; it may give several). Unix sockets become 0660 root:group; an unknown group leaves them to root. What is
// no unix socket speaks TLS when a configuration is given.
func Listen(host, group string, secure *tls.Config) ([]net.Listener, error) {
	if !strings.Contains(host, "://") {
		host = "tcp://" + host
	}
	u, err := url.Parse(host)
	if err != nil {
		return nil, fault.Invalid("unable to parse docker host %q", host)
	}
	switch u.Scheme {
	case "unix":
		l, err := listenUnix(u.Host+u.Path, group)
		return []net.Listener{l}, err
	case "tcp":
		port := "2375"
		if secure != nil {
			port = "2376"
		}
		l, err := listenTCP(u, port)
		return secured([]net.Listener{l}, secure), err
	case "fd":
		ls, err := listenFD(u.Host)
		return secured(ls, secure), err
	}
	return nil, fault.Invalid("invalid bind address %q: the scheme must be unix, tcp or fd", host)
}

func listenTCP(u *url.URL, port string) (net.Listener, error) {
	if u.Path != "" && u.Path != "/" {
		return nil, fault.Invalid("invalid bind address %q: should not contain a path element", u.String())
	}
	addr := u.Host
	if u.Port() == "" {
		addr = net.JoinHostPort(u.Hostname(), port)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen on tcp://%s: %w", addr, err)
	}
	return l, nil
}

func listenUnix(path, group string) (net.Listener, error) {
	if path == "" {
		return nil, fault.Invalid("invalid bind address unix://: the path is missing")
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	// The umask keeps the socket closed to others from the first instant on.
	old := syscall.Umask(0o177)
	l, err := net.Listen("unix", path)
	syscall.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("listen on unix://%s: %w", path, err)
	}
	if gid, ok := lookupGroup(group); ok {
		if err := os.Chown(path, 0, gid); err != nil {
			return nil, errors.Join(fmt.Errorf("give %s to group %s: %w", path, group, err), l.Close())
		}
	}
	if err := os.Chmod(path, 0o660); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// removeStale removes a socket that nobody serves; a served one or another kind of file is an error.
func removeStale(path string) error {
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if fi.Mode()&fs.ModeSocket == 0 {
		return fault.Conflict("%s exists and is not a socket", path)
	}
	if c, err := net.Dial("unix", path); err == nil {
		_ = c.Close()
		return fault.Conflict("another daemon serves unix://%s: stop it or choose another -H", path)
	}
	return os.Remove(path)
}

func lookupGroup(name string) (int, bool) {
	if gid, err := strconv.Atoi(name); err == nil {
		return gid, true
	}
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, false
	}
	gid, err := strconv.Atoi(g.Gid)
	return gid, err == nil
}

// listenFD takes over systemd's sockets: all of them for "" and "*", else the one with that number.
func listenFD(which string) ([]net.Listener, error) {
	ls, err := activation.Listeners()
	if err != nil {
		return nil, fmt.Errorf("socket activation: %w", err)
	}
	if len(ls) == 0 {
		return nil, fault.Invalid("no sockets found via socket activation: make sure the service was started by systemd")
	}
	if which == "" || which == "*" {
		return ls, nil
	}
	n, err := strconv.Atoi(which)
	if err != nil || n < 3 || n-3 >= len(ls) {
		return nil, fault.Invalid("no socket with number %s found via socket activation", which)
	}
	return ls[n-3 : n-2], nil
}
