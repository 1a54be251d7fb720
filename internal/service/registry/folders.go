package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// openFolder tells the kinds of folders apart.
func openFolder(dir string) (source, error) {
	for _, below := range []string{"docker/registry/v2", "registry/v2", "v2", ""} {
		root := filepath.Join(dir, filepath.FromSlash(below))
		if isDir(filepath.Join(root, "repositories")) && isDir(filepath.Join(root, "blobs")) {
			return distributionFolder(root), nil
		}
	}
	if !isDir(dir) {
		return nil, fmt.Errorf("%w: no such folder", fs.ErrNotExist)
	}
	return layoutsFolder(dir), nil
}

func isDir(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.IsDir()
}

// layoutsFolder is zot's storage: an OCI image layout per repository, at the path that is its name.
type layoutsFolder string

func (root layoutsFolder) repositories(ctx context.Context, fn func(sourceRepo) error) error {
	found := false
	err := filepath.WalkDir(string(root), func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := os.Stat(filepath.Join(path, "index.json")); err != nil {
			return below(string(root), path)
		}
		if _, err := os.Stat(filepath.Join(path, "oci-layout")); err != nil {
			return nil
		}
		found = true
		name, err := filepath.Rel(string(root), path)
		if err != nil {
			return err
		}
		repo, err := readLayout(path, filepath.ToSlash(name))
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return fn(repo)
	})
	if err == nil && !found {
		return errors.New("neither OCI image layouts (zot) nor docker/registry/v2 (distribution) are in it")
	}
	return err
}

// below keeps the walk out of folders that hold blobs and uploads: they are large and hold no repository.
func below(root, path string) error {
	name := filepath.Base(path)
	_, err := os.Stat(filepath.Join(filepath.Dir(path), "oci-layout"))
	if path != root && (name == "blobs" && err == nil || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_")) {
		return fs.SkipDir
	}
	return nil
}

func readLayout(dir, name string) (sourceRepo, error) {
	repo := sourceRepo{name: name, tags: map[string]digest.Digest{}}
	repo.file = func(d digest.Digest) string {
		return filepath.Join(dir, "blobs", d.Algorithm().String(), d.Encoded())
	}
	raw, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		return repo, err
	}
	var index ocispec.Index
	if err := json.Unmarshal(raw, &index); err != nil {
		return repo, err
	}
	for _, m := range index.Manifests {
		if m.Digest.Validate() != nil {
			continue
		}
		repo.manifests = append(repo.manifests, sourceManifest{m.Digest, m.MediaType})
		if tag := m.Annotations[ocispec.AnnotationRefName]; tag != "" {
			repo.tags[tag] = m.Digest
		}
	}
	return repo, nil
}

// distributionFolder is the storage of the reference implementation (docker-registry), at …/registry/v2.
type distributionFolder string

func (root distributionFolder) repositories(ctx context.Context, fn func(sourceRepo) error) error {
	top := filepath.Join(string(root), "repositories")
	return filepath.WalkDir(top, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if strings.HasPrefix(e.Name(), "_") {
			return fs.SkipDir
		}
		manifests := filepath.Join(path, "_manifests")
		if !isDir(manifests) {
			return nil
		}
		name, err := filepath.Rel(top, path)
		if err != nil {
			return err
		}
		repo, err := root.read(manifests, filepath.ToSlash(name))
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return fn(repo)
	})
}

func (root distributionFolder) read(dir, name string) (sourceRepo, error) {
	repo := sourceRepo{name: name, tags: map[string]digest.Digest{}}
	repo.file = func(d digest.Digest) string {
		hex := d.Encoded()
		return filepath.Join(string(root), "blobs", d.Algorithm().String(), hex[:2], hex, "data")
	}
	for _, alg := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		revisions, err := os.ReadDir(filepath.Join(dir, "revisions", alg.String()))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return repo, err
		}
		for _, r := range revisions {
			d, err := readLink(filepath.Join(dir, "revisions", alg.String(), r.Name(), "link"))
			if err != nil {
				continue // deleted: the folder stays without its link
			}
			repo.manifests = append(repo.manifests, sourceManifest{digest: d})
		}
	}
	tags, err := os.ReadDir(filepath.Join(dir, "tags"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return repo, err
	}
	for _, t := range tags {
		if d, err := readLink(filepath.Join(dir, "tags", t.Name(), "current", "link")); err == nil {
			repo.tags[t.Name()] = d
		}
	}
	return repo, nil
}

func readLink(path string) (digest.Digest, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	return digest.Parse(strings.TrimSpace(string(raw)))
}
