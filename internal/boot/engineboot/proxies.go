package engineboot

import (
	"errors"
	"os"

	"longshore/internal/boot/engineconfig"
)

// UseProxies makes the settings' proxies those of the process, as dockerd does: pulls, pushes, builds and what they
// start go through them. Call it before the first request is made.
func UseProxies(cfg *engineconfig.Config) error {
	var errs []error
	for name, v := range map[string]string{"HTTP_PROXY": cfg.HTTPProxy, "HTTPS_PROXY": cfg.HTTPSProxy, "NO_PROXY": cfg.NoProxy} {
		if v != "" {
			errs = append(errs, os.Setenv(name, v))
		}
	}
	return errors.Join(errs...)
}
