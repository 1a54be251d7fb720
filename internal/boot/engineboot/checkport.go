package engineboot

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"

	"longshore/internal/boot/engineconfig"
	"longshore/internal/driver/portcheck"
)

// CheckPort writes who can connect to a port of this host, and why. Containers are called by their names when the engine
// answers.
func CheckPort(ctx context.Context, w io.Writer, cfg *engineconfig.Config, p portcheck.Port) error {
	r, err := portcheck.Look(ctx, p)
	if err != nil {
		return err
	}
	names, err := containerNames(ctx, cfg.Hosts)
	if err != nil {
		r.Unread = append(r.Unread, fmt.Sprintf("the engine does not tell containers' names: %v", err))
	}
	r.Write(w, names)
	return nil
}

// askLimit bounds what the engine is waited for.
const askLimit = 5 * time.Second

// containerNames asks the engine at its first unix socket for the names of running containers by their addresses.
func containerNames(ctx context.Context, hosts []string) (map[netip.Addr]string, error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	path := ""
	for _, h := range hosts {
		if p, ok := strings.CutPrefix(h, "unix://"); ok && path == "" {
			path = p
		}
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://engine/containers/json", nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var all []container.Summary
	if err := json.NewDecoder(resp.Body).Decode(&all); err != nil {
		return nil, err
	}
	out := map[netip.Addr]string{}
	for _, c := range all {
		if c.NetworkSettings == nil || len(c.Names) == 0 {
			continue
		}
		for _, e := range c.NetworkSettings.Networks {
			for _, a := range []netip.Addr{e.IPAddress, e.GlobalIPv6Address} {
				if a.IsValid() {
					out[a] = strings.TrimPrefix(c.Names[0], "/")
				}
			}
		}
	}
	return out, nil
}
