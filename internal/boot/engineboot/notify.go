package engineboot

import (
	"log/slog"

	"github.com/coreos/go-systemd/v22/daemon"
)

func notify(log *slog.Logger) {
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
		log.Warn("systemd was not told that we are ready", "error", err)
	}
}
