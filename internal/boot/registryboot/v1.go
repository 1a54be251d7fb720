package registryboot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/boot/registryconfig"
	"longshore/internal/core/blob"
	"longshore/internal/core/distribution"
	"longshore/internal/core/manifest"
	"longshore/internal/server/hubapi"
	"longshore/internal/server/registryapi"
	v1api "longshore/internal/server/registryv1"
	"longshore/internal/server/wirev1"
	"longshore/internal/service/auth"
	"longshore/internal/service/hub"
	"longshore/internal/service/registry"
	"longshore/internal/service/registryv1"
)

// old is registry API v1 with its index; all nil when it is switched off.
type old struct {
	gate   *wirev1.Gate
	images *registryv1.Service
	hub    *hub.Service
}

// oldEnabled says whether registry API v1 is served: as configured, else as whoever built the registry wants it.
func (r *Registry) oldEnabled() bool {
	if asked := oldAsked(r.cfg); asked != nil {
		return *asked
	}
	return r.options.V1
}

// oldAsked is what a configuration says of it; nil when it says nothing.
func oldAsked(cfg *registryconfig.Config) *bool {
	if e := cfg.Extensions; e != nil && e.V1 != nil {
		return e.V1.Enable
	}
	return nil
}

// openOld builds registry API v1 over the registry's own content.
func (r *Registry) openOld() {
	if !r.oldEnabled() {
		return
	}
	r.old.gate = wirev1.NewGate(r.auth, r.log, registryapi.NoteSubject, r.oldOptions(r.cfg))
	r.old.images = registryv1.New(content{r.service}, r.shelves.graph, registryv1.Config{
		MaxRepos: r.cfg.Storage.MaxRepos, Logger: r.log, Now: r.options.Now,
	})
	r.old.hub = hub.New(r.shelves.graph, r.shelves.accounts, hub.Config{
		Describe: content{r.service}.describe, Logger: r.log, Now: r.options.Now,
	})
	h := hubapi.New(r.old.gate, r.old.hub, r.old.images, r.own.accounts, v1api.New(r.old.gate, r.old.images, r.old.hub))
	for _, path := range v1api.Paths {
		r.mounts = append(r.mounts, registryapi.Mount{Path: path, Handler: h})
	}
}

// oldOptions are what may change while the registry runs. It is standalone where nobody needs a name to push.
func (r *Registry) oldOptions(cfg *registryconfig.Config) wirev1.Options {
	nobody := &auth.Subject{}
	o := wirev1.Options{Standalone: r.auth.Authorize(nobody, auth.Query{Action: auth.Create, Repo: v1api.Unplaced}) == nil, SecureCookies: cfg.HTTP.TLS != nil || strings.HasPrefix(cfg.HTTP.ExternalURL, "https://")}
	if e := cfg.Extensions; e != nil && e.V1 != nil {
		if e.V1.Standalone != nil {
			o.Standalone = *e.V1.Standalone
		}
		o.Endpoints = e.V1.Endpoints
	}
	if _, host, ok := strings.Cut(cfg.HTTP.ExternalURL, "://"); ok && len(o.Endpoints) == 0 {
		host, _, _ = strings.Cut(host, "/")
		o.Endpoints = []string{host}
	}
	return o
}

// runOld is the background of what openOld has built.
func (r *Registry) runOld() []func(context.Context) error {
	if r.old.images == nil {
		return nil
	}
	return []func(context.Context) error{r.old.images.Run, r.old.hub.Run}
}

// content is the registry in the words of service/registryv1.
type content struct{ *registry.Service }

// Manifest implements registryv1.Registry.
func (c content) Manifest(ctx context.Context, repo distribution.RepoName, ref distribution.Reference, pull bool) (registryv1.Manifest, error) {
	m, err := c.Service.Manifest(ctx, repo, ref, registry.ManifestOptions{Pull: pull})
	return registryv1.Manifest{Digest: m.Digest, MediaType: m.MediaType, Payload: m.Payload}, err
}

// PutManifest implements registryv1.Registry.
func (c content) PutManifest(ctx context.Context, repo distribution.RepoName, m registryv1.Manifest, tags ...distribution.Tag) (digest.Digest, error) {
	d := digest.FromBytes(m.Payload)
	_, err := c.Service.PutManifest(ctx, registry.ManifestPut{
		Repo: repo, Reference: distribution.Reference{Digest: d}, Tags: tags, MediaType: m.MediaType, Size: int64(len(m.Payload)),
		Body: strings.NewReader(string(m.Payload)),
	})
	return d, err
}

// describe is what a repository's newest image says of itself.
func (c content) describe(ctx context.Context, repo distribution.RepoName) string {
	m, err := c.Service.Manifest(ctx, repo, distribution.Reference{Tag: "latest"}, registry.ManifestOptions{})
	if err != nil {
		return ""
	}
	doc, err := manifest.Parse(m.MediaType, m.Payload)
	if err != nil {
		return ""
	}
	return doc.Annotations[ocispec.AnnotationDescription]
}

// DeleteTag implements registryv1.Registry.
func (c content) DeleteTag(ctx context.Context, repo distribution.RepoName, tag distribution.Tag) error {
	return c.DeleteManifest(ctx, repo, distribution.Reference{Tag: tag})
}

// Open implements registryv1.Registry.
func (c content) Open(ctx context.Context, repo distribution.RepoName, d digest.Digest) (blob.Content, error) {
	return c.OpenBlob(ctx, repo, d)
}

// Keep implements registryv1.Registry.
func (c content) Keep(ctx context.Context, repo distribution.RepoName, body io.Reader, sum func() (digest.Digest, error)) (blob.Info, error) {
	u, err := c.StartUpload(ctx, repo, digest.SHA256)
	if err != nil {
		return blob.Info{}, err
	}
	_, err = c.AppendUpload(ctx, repo, u.ID, registry.Chunk{First: -1, Size: -1, Body: body})
	var d digest.Digest
	if err == nil {
		d, err = sum()
	}
	var info blob.Info
	if err == nil {
		info, err = c.FinishUpload(ctx, repo, u.ID, d, registry.Chunk{First: -1, Size: -1})
	}
	if err != nil {
		_ = c.CancelUpload(context.WithoutCancel(ctx), repo, u.ID) // what rests is swept
	}
	return info, err
}

// Share implements registryv1.Registry.
func (c content) Share(ctx context.Context, from, to distribution.RepoName, d digest.Digest) error {
	_, ok, err := c.MountBlob(ctx, registry.Mount{Repo: to, From: from, Digest: d})
	if ok || err != nil {
		return err
	}
	// Repositories may lie in different stores.
	src, err := c.OpenBlob(ctx, from, d)
	if err != nil {
		return err
	}
	defer src.Close()
	if _, err := c.PutBlob(ctx, to, d, registry.Chunk{First: -1, Size: src.Size, Body: src}); err != nil {
		return fmt.Errorf("share %s: %w", d, err)
	}
	return nil
}

// Describe changes what searches tell of a repository of a configuration, or of the embedded registry in a folder. A registry
// that runs with it may go on.
func Describe(ctx context.Context, path, name string, about hub.About) (err error) {
	repo, err := wirev1.RepoName(name)
	if err != nil {
		return err
	}
	cfg, err := named(path)
	if err != nil {
		return err
	}
	s, err := openShelves(ctx, cfg.Storage, reading)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	images := registryv1.New(content{}, s.graph, registryv1.Config{})
	there, err := images.Has(ctx, repo, time.Time{})
	if err == nil && !there {
		repo = distribution.RepoName(name) // clients of today need no namespace
		there, err = images.Has(ctx, repo, time.Time{})
	}
	if err != nil {
		return err
	}
	if !there {
		return fmt.Errorf("there is no repository %s", name)
	}
	return hub.New(s.graph, s.accounts, hub.Config{}).Describe(ctx, repo, about)
}
