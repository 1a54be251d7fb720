package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"longshore/internal/core/distribution"
	"longshore/internal/core/registryindex"
	"longshore/internal/core/retention"
)

// retain applies the retention policies to every repository.
func (c *collection) retain(ctx context.Context) error {
	page := distribution.Page{N: scanBatch}
	for {
		repos, err := c.index.AllRepositories(ctx, page)
		if err != nil {
			return err
		}
		for _, repo := range repos {
			ruling, ok := c.retention.For(repo)
			if !ok {
				continue
			}
			if err := c.retainIn(ctx, repo, ruling); err != nil {
				return fmt.Errorf("%s: %w", repo, err)
			}
		}
		if len(repos) < page.N {
			return nil
		}
		page.Last = string(repos[len(repos)-1])
	}
}

func (c *collection) retainIn(ctx context.Context, repo distribution.RepoName, ruling retention.Ruling) error {
	if err := c.retainTags(ctx, repo, ruling); err != nil {
		return err
	}
	untagged, err := c.index.Untagged(ctx, repo)
	if err != nil {
		return err
	}
	for _, i := range ruling.DropUntagged(items(untagged), c.now) {
		if err := c.dropManifest(ctx, repo, i.Name, "untagged manifest"); err != nil {
			return err
		}
	}
	orphans, err := c.index.Orphans(ctx, repo)
	if err != nil {
		return err
	}
	for _, i := range ruling.DropReferrers(items(orphans), c.now) {
		if err := c.dropManifest(ctx, repo, i.Name, "referrer without its subject"); err != nil {
			return err
		}
	}
	return nil
}

// retainTags drops tags. A tag that is a signature, attestation or list of referrers by its name goes by its subject.
func (c *collection) retainTags(ctx context.Context, repo distribution.RepoName, ruling retention.Ruling) error {
	infos, err := c.index.TagInfos(ctx, repo, distribution.All)
	if err != nil {
		return ignoreNotFound(err)
	}
	var tags, orphans []retention.Item
	for _, t := range infos {
		item := retention.Item{Name: string(t.Tag), Pushed: t.Pushed, Pulled: t.Pulled}
		subject, ok := attachedTo(t.Tag)
		if !ok {
			tags = append(tags, item)
			continue
		}
		_, err := c.find(ctx, repo, distribution.Reference{Digest: subject})
		if errdefs.IsNotFound(err) {
			orphans = append(orphans, item)
		} else if err != nil {
			return err
		}
	}
	for _, i := range append(ruling.DropTags(tags, c.now), ruling.DropReferrers(orphans, c.now)...) {
		c.report.Tags++
		c.line("tag: %s:%s", repo, i.Name)
		if c.keeps() {
			continue
		}
		err := c.index.DeleteTag(ctx, repo, distribution.Tag(i.Name))
		c.Service.manifests.forget(repo, i.Name)
		if ignoreNotFound(err) != nil {
			return err
		}
		c.cfg.Logger.Info("retention dropped a tag", "repo", repo, "tag", i.Name)
	}
	return nil
}

// attachedTo reads cosign's tags ("sha256-….sig") and those of the referrers tag schema.
func attachedTo(tag distribution.Tag) (digest.Digest, bool) {
	name, _, _ := strings.Cut(string(tag), ".")
	return subjectOf(distribution.Tag(name))
}

func (c *collection) dropManifest(ctx context.Context, repo distribution.RepoName, d, what string) error {
	c.report.Manifests++
	c.line("%s: %s@%s", what, repo, d)
	if c.keeps() {
		return nil
	}
	err := c.DeleteManifest(ctx, repo, distribution.Reference{Digest: digest.Digest(d)})
	if ignoreNotFound(err) != nil {
		return err
	}
	c.cfg.Logger.Info("retention dropped a manifest", "repo", repo, "digest", d, "reason", what)
	return nil
}

// keeps says that decisions are only told: in a dry run of the collection or of the retention policies.
func (c *collection) keeps() bool { return c.dry || c.retention.DryRun() }

func items(manifests []registryindex.Manifest) []retention.Item {
	list := make([]retention.Item, len(manifests))
	for i, m := range manifests {
		list[i] = retention.Item{Name: m.Digest.String(), Pushed: m.Pushed, Pulled: m.Pulled}
	}
	return list
}

func ignoreNotFound(err error) error {
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}

// scheduled is a collection that the clock begins.
func (s *Service) scheduled(ctx context.Context) {
	plan := s.plan.Load()
	if !plan.Enabled || !plan.window.contains(s.cfg.Now()) {
		return
	}
	started := s.cfg.Now()
	r, err := s.CollectGarbage(ctx, GCOptions{})
	switch {
	case errdefs.IsConflict(err), ctx.Err() != nil && errors.Is(err, ctx.Err()):
	case err != nil:
		s.cfg.Logger.Error("garbage collection failed", "error", err)
	default:
		s.cfg.Logger.Info("garbage collected", "tags", r.Tags, "manifests", r.Manifests, "links", r.Links, "blobs", r.Blobs,
			"bytes", r.Bytes, "uploads", r.Uploads, slog.Duration("took", s.cfg.Now().Sub(started)))
	}
}

// window is a daily span in UTC, in minutes since midnight; from == to is always.
type window struct{ from, to int }

// parseWindow reads "HH:MM-HH:MM"; it may wrap past midnight.
func parseWindow(text string) (window, error) {
	if text == "" {
		return window{}, nil
	}
	from, to, ok := strings.Cut(text, "-")
	a, errA := time.Parse("15:04", from)
	b, errB := time.Parse("15:04", to)
	if !ok || errA != nil || errB != nil || a.Equal(b) {
		return window{}, fmt.Errorf("garbage collection window %q is not HH:MM-HH:MM", text)
	}
	return window{a.Hour()*60 + a.Minute(), b.Hour()*60 + b.Minute()}, nil
}

func (w window) contains(t time.Time) bool {
	t = t.UTC()
	m := t.Hour()*60 + t.Minute()
	switch {
	case w.from == w.to:
		return true
	case w.from < w.to:
		return m >= w.from && m < w.to
	}
	return m >= w.from || m < w.to
}
