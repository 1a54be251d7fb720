package engineboot

import (
	"context"
	"fmt"
	"time"

	"longshore/internal/driver/authzplugin"
	"longshore/internal/server/engineapi/authz"
)

// pluginPatience is how long a plugin may take to come up.
const pluginPatience = 15 * time.Second

// gate asks the authorization plugins of the configuration.
type gate struct {
	*authz.Gate
	open map[string]*authzplugin.Plugin
}

// load finds the plugins of those names and asks them from now on; when one is not there, everything stays as it was.
func (g *gate) load(ctx context.Context, names []string) error {
	ctx, cancel := context.WithTimeout(ctx, pluginPatience)
	defer cancel()
	next, order := map[string]*authzplugin.Plugin{}, []authz.Plugin{}
	for _, name := range names {
		if _, twice := next[name]; twice {
			continue
		}
		p, known := g.open[name]
		if !known {
			var err error
			if p, err = authzplugin.Open(ctx, name, authzplugin.Places{}); err != nil {
				return fmt.Errorf("failed to validate authorization plugin: %w", err)
			}
		}
		next[name] = p
		order = append(order, p)
	}
	g.Set(order)
	for name, p := range g.open {
		if _, stays := next[name]; !stays {
			p.Close()
		}
	}
	g.open = next
	return nil
}
