package transfer

import (
	"context"

	"github.com/containerd/errdefs"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Neighbour is a registry in this process. Manifests, credentials and permission go over HTTP as to any registry; only a
// blob's bytes are replaced by a file, which both sides' stores hold by hard link. Both have verified its digest when
// the bytes first came, so it is not hashed again. core/handover says how a request names a file.
type Neighbour interface {
	// At tells whether a host, with port, is the neighbour's; a wrong yes costs a request, nothing else.
	At(host string) bool
	// Offer makes a file known to who shows the ticket; Expect opens the desk for one.
	Offer(d digest.Digest, path string) (ticket string)
	Expect(d digest.Digest) (ticket string)
	// Index is the host, with port, whose index answers searches that name no host; empty when it has none.
	Index() string
	// Collect ends a ticket: the file's path, and whether the neighbour has accepted or delivered it.
	Collect(ticket string) (path string, ok bool)
}

// receive takes a blob from the neighbour by hard link. False without an error: fetch its bytes.
func (f *fetch) receive(ctx context.Context, d ocispec.Descriptor, labels map[string]string) (bool, error) {
	// Only where it is asked first: a mirror before it is there to be used.
	if first := f.from.list[0]; f.Neighbour == nil || !f.Neighbour.At(first.Host()) || first.connect(ctx, false) != nil {
		return false, nil
	}
	ticket := f.Neighbour.Expect(d.Digest)
	err := f.from.list[0].Request(ctx, d.Digest, ticket)
	path, ok := f.Neighbour.Collect(ticket)
	if err != nil || !ok {
		return false, ctx.Err() // whatever it is, the GET that follows says it with its words
	}
	linked, err := f.Store.LinkBlob(ctx, path, d, labels)
	if errdefs.IsFailedPrecondition(err) {
		return false, nil
	}
	return linked, err
}

// offer makes a blob's file known to the neighbour. taken ends that, and tells whether the file was accepted.
func (u *upload) offer(ctx context.Context, d ocispec.Descriptor) (ticket string, taken func() bool) {
	none := func() bool { return false }
	if u.Neighbour == nil || !u.Neighbour.At(u.repo.Host()) || !u.Store.Has(ctx, d.Digest) {
		return "", none
	}
	ticket = u.Neighbour.Offer(d.Digest, u.Store.BlobPath(d.Digest))
	return ticket, func() bool {
		_, ok := u.Neighbour.Collect(ticket)
		return ok
	}
}
