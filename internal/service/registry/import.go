package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"longshore/internal/core/distribution"
	"longshore/internal/core/manifest"
)

// Import takes over another registry's folder: blobs by hard link where the file system allows it, else by copy, and
// manifests and tags as rows. The folder is only read, and may go on being used: a second import takes what has come
// since. What cannot be taken (a manifest of schema 1, a missing blob, a bad name) is skipped and told.
func (s *Service) Import(ctx context.Context, o ImportOptions) (ImportProgress, error) {
	im := &importer{Service: s, o: o}
	source, err := openFolder(o.Dir)
	if err == nil {
		err = source.repositories(ctx, func(repo sourceRepo) error { return im.repository(ctx, repo) })
	}
	if err != nil {
		return im.progress, fmt.Errorf("import %s: %w", o.Dir, err)
	}
	return im.progress, nil
}

// source is another registry's folder.
type source interface {
	// repositories calls fn for each repository, in order of name.
	repositories(ctx context.Context, fn func(sourceRepo) error) error
}

// sourceRepo is a repository in a folder.
type sourceRepo struct {
	name string
	// manifests lists digests; the media type is empty when the folder does not say it.
	manifests []sourceManifest
	tags      map[string]digest.Digest
	// file is where a blob lies.
	file func(digest.Digest) string
}

type sourceManifest struct {
	digest    digest.Digest
	mediaType string
}

// importer is one import.
type importer struct {
	*Service
	o        ImportOptions
	progress ImportProgress
}

func (im *importer) skip(format string, a ...any) {
	im.progress.Skipped = append(im.progress.Skipped, fmt.Sprintf(format, a...))
}

// repository takes over one. Errors of single manifests are told, not returned.
func (im *importer) repository(ctx context.Context, src sourceRepo) error {
	repo, err := distribution.ParseRepoName(src.name)
	if err != nil {
		im.skip("repository %q: not a valid name", src.name)
		return nil
	}
	tags := map[digest.Digest][]distribution.Tag{}
	for name, d := range src.tags {
		tag, err := distribution.ParseTag(name)
		if err != nil {
			im.skip("%s: tag %q: not a valid tag", repo, name)
			continue
		}
		tags[d] = append(tags[d], tag)
	}
	seen := map[digest.Digest]bool{}
	for queue := src.manifests; len(queue) > 0; queue = queue[1:] {
		if err := ctx.Err(); err != nil {
			return err
		}
		m := queue[0]
		if seen[m.digest] {
			continue
		}
		seen[m.digest] = true
		children, err := im.manifest(ctx, repo, src, m, tags[m.digest])
		if err != nil {
			im.skip("%s@%s: %v", repo, m.digest, err)
			continue
		}
		queue = append(queue, children...)
	}
	im.progress.Repositories++
	im.progress.Repo = repo
	if im.o.Progress != nil {
		im.o.Progress(im.progress)
	}
	return nil
}

// manifest takes over one with its blobs, and gives the children that lie in the folder.
func (im *importer) manifest(ctx context.Context, repo distribution.RepoName, src sourceRepo, m sourceManifest, tags []distribution.Tag) ([]sourceManifest, error) {
	payload, info, err := readSmall(src.file(m.digest))
	if err != nil {
		return nil, err
	}
	if m.digest.Algorithm().FromBytes(payload) != m.digest {
		return nil, errors.New("the file does not have the digest")
	}
	doc, err := manifest.Parse(m.mediaType, payload)
	if err != nil {
		return nil, err
	}
	var children []sourceManifest
	for _, c := range doc.Children {
		if _, err := os.Stat(src.file(c.Digest)); err == nil {
			children = append(children, sourceManifest{c.Digest, c.MediaType})
		}
	}
	if im.has(ctx, repo, m.digest, tags) {
		im.progress.Done++
		return children, nil
	}
	for _, d := range append(doc.Blobs[:len(doc.Blobs):len(doc.Blobs)], present(doc.OptionalBlobs, src)...) {
		if err := im.blob(ctx, repo, d, src.file(d)); err != nil {
			return nil, fmt.Errorf("blob %s: %w", d, err)
		}
	}
	p := put(repo, doc, tags)
	p.Manifest.Digest, p.Manifest.Payload, p.Manifest.Size = m.digest, payload, int64(len(payload))
	p.Manifest.Pushed = info.ModTime() // so that retention goes on where the other registry stopped
	if err := im.store(ctx, p); err != nil {
		return nil, err
	}
	im.progress.Manifests++
	im.progress.Tags += len(tags)
	return children, nil
}

// has says that an earlier import, or a push, has brought the manifest and its tags.
func (im *importer) has(ctx context.Context, repo distribution.RepoName, d digest.Digest, tags []distribution.Tag) bool {
	if _, err := im.find(ctx, repo, distribution.Reference{Digest: d}); err != nil {
		return false
	}
	for _, tag := range tags {
		if m, err := im.find(ctx, repo, distribution.Reference{Tag: tag}); err != nil || m.Digest != d {
			return false
		}
	}
	return true
}

func present(ds []digest.Digest, src sourceRepo) (list []digest.Digest) {
	for _, d := range ds {
		if _, err := os.Stat(src.file(d)); err == nil {
			list = append(list, d)
		}
	}
	return list
}

func (im *importer) blob(ctx context.Context, repo distribution.RepoName, d digest.Digest, file string) error {
	if _, err := im.linked(ctx, repo, d); err == nil {
		return nil
	}
	if im.o.Verify {
		if err := verify(file, d); err != nil {
			return err
		}
	}
	info, err := im.LinkIn(ctx, repo, d, file)
	if err != nil {
		return err
	}
	im.progress.Blobs++
	im.progress.Bytes += info.Size
	return nil
}

func verify(file string, d digest.Digest) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	got, err := d.Algorithm().FromReader(f)
	if err == nil && got != d {
		err = fmt.Errorf("the file has %s", got)
	}
	return err
}

// readSmall reads a regular file that is no larger than a manifest may be.
func readSmall(file string) ([]byte, fs.FileInfo, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > MaxManifest {
		return nil, nil, fmt.Errorf("%s: %w: not a file of a manifest's size", filepath.Base(file), errdefs.ErrInvalidArgument)
	}
	b, err := io.ReadAll(io.LimitReader(f, MaxManifest))
	return b, info, err
}
