package engineboot

import (
	"log/slog"
	"net"
	"os"
)

// notifySocket takes systemd's socket out of the environment: an OCI runtime that finds it there waits for its container
// to use it (so go-systemd, which reads the environment when it sends, does not fit).
func notifySocket() string {
	const name = "NOTIFY_SOCKET"
	path := os.Getenv(name)
	_ = os.Unsetenv(name) // fails for bad names only
	return path
}

// notify tells systemd, where it asked, how the daemon is.
func notify(socket, state string, log *slog.Logger) {
	if socket == "" {
		return
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err == nil {
		_, err = c.Write([]byte(state))
		_ = c.Close()
	}
	if err != nil {
		log.Warn("systemd cannot be notified", "state", state, "error", err)
	}
}
