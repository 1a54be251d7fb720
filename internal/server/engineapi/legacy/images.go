package legacy

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"slices"
	"sort"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"

	"longshore/internal/core/fault"
	"longshore/internal/server/route"
)

// viz draws the images and their parents as a graph for dot(1).
func (h *handlers) viz(ctx context.Context, r *route.Request) (route.Response, error) {
	var all []image.Summary
	if err := h.ask(ctx, call{key: "GET /images/json", q: url.Values{"all": {"1"}}}, &all); err != nil {
		return nil, err
	}
	sort.Slice(all, func(i, j int) bool { return all[i].ID < all[j].ID })
	return route.Raw{ContentType: "text/plain", Run: func(_ context.Context, w io.Writer) error {
		_, err := io.WriteString(w, graph(all))
		return err
	}}, nil
}

func graph(all []image.Summary) string {
	var b strings.Builder
	b.WriteString("digraph docker {\n")
	for _, i := range all {
		if i.ParentID != "" {
			fmt.Fprintf(&b, " %q -> %q\n", short(i.ParentID), short(i.ID))
		} else {
			fmt.Fprintf(&b, " base -> %q [style=invis]\n", short(i.ID))
		}
	}
	for _, i := range all {
		if len(i.RepoTags) > 0 {
			fmt.Fprintf(&b, " %q [label=\"%s\\n%s\",shape=box,fillcolor=\"paleturquoise\",style=\"filled,rounded\"];\n",
				short(i.ID), short(i.ID), strings.Join(i.RepoTags, `\n`))
		}
	}
	b.WriteString(" base [style=invisible]\n}\n")
	return b.String()
}

func short(id string) string {
	_, hex, ok := strings.Cut(id, ":")
	if !ok {
		hex = id
	}
	return hex[:min(12, len(hex))]
}

// cacheRequest is a parent's ID beside the fields of a configuration.
type cacheRequest struct {
	Parent string `json:"Id"`
	container.Config
}

// cachedImage is the answer.
type cachedImage struct {
	ID string `json:"Id"`
}

// getCache finds an image that the same command made from the same parent.
func (h *handlers) getCache(ctx context.Context, r *route.Request) (route.Response, error) {
	var want cacheRequest
	if err := r.Decode(&want); err != nil {
		return nil, err
	}
	var parent image.InspectResponse
	if err := h.ask(ctx, call{key: "GET /images/{name...}/json", vars: map[string]string{"name": want.Parent}}, &parent); err != nil {
		return nil, err
	}
	var all []image.Summary
	if err := h.ask(ctx, call{key: "GET /images/json", q: url.Values{"all": {"1"}}}, &all); err != nil {
		return nil, err
	}
	for _, i := range all {
		if i.ParentID != parent.ID {
			continue
		}
		made, err := h.madeBy(ctx, i.ID, want.Config)
		if err != nil {
			return nil, err
		}
		if made {
			return route.JSON{Body: cachedImage{ID: i.ID}}, nil
		}
	}
	return nil, fault.NotFound("No such image: no child of %s was made that way", want.Parent)
}

// madeBy tells whether an image's last layer came from the configuration's command with its environment.
func (h *handlers) madeBy(ctx context.Context, id string, cfg container.Config) (bool, error) {
	name := map[string]string{"name": id}
	var layers []image.HistoryResponseItem
	if err := h.ask(ctx, call{key: "GET /images/{name...}/history", vars: name}, &layers); err != nil {
		return false, err
	}
	if len(layers) == 0 || layers[0].CreatedBy != strings.Join(cfg.Cmd, " ") {
		return false, nil
	}
	var shown image.InspectResponse
	if err := h.ask(ctx, call{key: "GET /images/{name...}/json", vars: name}, &shown); err != nil {
		return false, err
	}
	for _, e := range cfg.Env {
		if shown.Config == nil || !slices.Contains(shown.Config.Env, e) {
			return false, nil
		}
	}
	return true, nil
}
