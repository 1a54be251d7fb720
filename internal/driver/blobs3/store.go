// Package blobs3 keeps the registry's blobs as objects of an S3 bucket, so that several instances can share them.
//
//	prefix/blobs/sha256/ab/abcdef…   one object per blob
//	prefix/uploads/<key>/state       an open upload: what is needed to go on with it, and its last bytes (see state.go)
//	prefix/uploads/<key>/data        its bytes as a multipart upload until it is committed
//
// An object appears as a whole or not at all, and the service keeps it from the moment it has answered. A blob whose
// digest is known beforehand streams to its name; the last bytes are held back until the digest is verified.
package blobs3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/opencontainers/go-digest"

	"longshore/internal/core/blob"
	"longshore/internal/core/distribution"
)

// Config says where the bucket is.
type Config struct {
	// Endpoint is host[:port]; empty is Amazon's for the region.
	Endpoint, Region, Bucket string
	// Prefix is put before every name, without slashes at its ends; may be empty.
	Prefix string
	// AccessKey empty means: from the environment, the shared credentials file, or the machine's role.
	AccessKey, SecretKey, SessionToken string
	// Insecure speaks HTTP.
	Insecure bool
	// PathStyle puts the bucket into the path instead of the host name.
	PathStyle bool
	// Transport is the HTTP client's; nil is minio's default. It decides about certificates and proxies.
	Transport http.RoundTripper
}

// Validate says what is missing.
func (c Config) Validate() error {
	if c.Bucket == "" {
		return errors.New("s3: a bucket is needed")
	}
	if c.Endpoint == "" && c.Region == "" {
		return errors.New("s3: an endpoint or a region is needed")
	}
	return nil
}

// Store implements blob.Store and blob.Redirector.
type Store struct {
	client *minio.Client
	core   minio.Core
	bucket string
	prefix string
	// busy holds the keys of the uploads that a request of this process is writing.
	busy sync.Map
}

var (
	_ blob.Store      = (*Store)(nil)
	_ blob.Redirector = (*Store)(nil)
	_ blob.Placed     = (*Store)(nil)
)

// New connects and checks that the bucket is there.
func New(ctx context.Context, c Config) (*Store, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	creds := credentials.NewStaticV4(c.AccessKey, c.SecretKey, c.SessionToken)
	if c.AccessKey == "" {
		creds = credentials.NewChainCredentials([]credentials.Provider{
			&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}, &credentials.IAM{Client: &http.Client{Timeout: 10 * time.Second}}})
	}
	endpoint := c.Endpoint
	if endpoint == "" {
		endpoint = "s3." + c.Region + ".amazonaws.com"
	}
	lookup := minio.BucketLookupAuto
	if c.PathStyle {
		lookup = minio.BucketLookupPath
	}
	client, err := minio.New(endpoint, &minio.Options{Creds: creds, Secure: !c.Insecure, Region: c.Region, BucketLookup: lookup, Transport: c.Transport})
	if err != nil {
		return nil, fmt.Errorf("s3 %s: %w", endpoint, err)
	}
	ok, err := client.BucketExists(ctx, c.Bucket)
	if err == nil && !ok {
		err = errdefs.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("s3 bucket %q at %s: %w", c.Bucket, endpoint, err)
	}
	return &Store{client: client, core: minio.Core{Client: client}, bucket: c.Bucket, prefix: strings.Trim(c.Prefix, "/")}, nil
}

// Place implements blob.Placed.
func (s *Store) Place() string {
	return "s3:" + s.client.EndpointURL().Host + "/" + s.bucket + "/" + s.prefix
}

// name is the object of a blob.
func (s *Store) name(d digest.Digest) (string, error) {
	if _, err := distribution.ParseDigest(d.String()); err != nil {
		return "", fmt.Errorf("blob %.200q: %w", d, errdefs.ErrInvalidArgument)
	}
	hex := d.Encoded()
	return path.Join(s.prefix, "blobs", d.Algorithm().String(), hex[:2], hex), nil
}

// Stat implements blob.Store.
func (s *Store) Stat(ctx context.Context, d digest.Digest) (blob.Info, error) {
	name, err := s.name(d)
	if err != nil {
		return blob.Info{}, err
	}
	i, err := s.client.StatObject(ctx, s.bucket, name, minio.StatObjectOptions{})
	if err != nil {
		return blob.Info{}, classed("stat blob", d.String(), err)
	}
	return blob.Info{Digest: d, Size: i.Size, Modified: i.LastModified}, nil
}

// Open implements blob.Store.
func (s *Store) Open(ctx context.Context, d digest.Digest) (blob.Content, error) {
	name, err := s.name(d)
	if err != nil {
		return blob.Content{}, err
	}
	o := &object{ctx: ctx, store: s, name: name}
	if err := o.open(0); err != nil {
		return blob.Content{}, classed("open blob", d.String(), err)
	}
	return blob.Content{ReadSeekCloser: o, Size: o.size}, nil
}

// partSize of multipart uploads whose size is not known: 16 MiB × 10,000 parts is 156 GiB.
const partSize = 16 << 20

// Put implements blob.Store.
func (s *Store) Put(ctx context.Context, d digest.Digest, size int64, r io.Reader) (blob.Info, error) {
	name, err := s.name(d)
	if err != nil {
		return blob.Info{}, err
	}
	r, head, err := small(r, size)
	if err != nil {
		return blob.Info{}, fmt.Errorf("put blob %s: %w", d, err)
	}
	if head != nil {
		return s.putWhole(ctx, d, head)
	}
	v := &verifier{r: r, want: d, hash: d.Algorithm().Hash(), left: size}
	i, err := s.client.PutObject(ctx, s.bucket, name, v, size, minio.PutObjectOptions{PartSize: partSize, ContentType: octets})
	if v.err != nil {
		err = v.err
	}
	if err != nil {
		return blob.Info{}, fmt.Errorf("put blob %s: %w", d, err)
	}
	return blob.Info{Digest: d, Size: i.Size, Modified: time.Now()}, nil
}

// smallBody is the size up to which content is held in memory as a whole, so that its request can be sent again.
const smallBody = 64 << 10

// small reads small content to its end into whole; whole is nil for larger content, which rest gives from its beginning.
func small(r io.Reader, size int64) (rest io.Reader, whole []byte, err error) {
	if size > smallBody {
		return r, nil, nil
	}
	head := make([]byte, smallBody+1)
	n, err := io.ReadFull(r, head)
	switch {
	case err == nil && size < 0:
		return io.MultiReader(bytes.NewReader(head), r), nil, nil
	case err == nil, err == io.EOF, err == io.ErrUnexpectedEOF:
		if size >= 0 && int64(n) != size {
			return nil, nil, fmt.Errorf("%d bytes instead of %d: %w", n, size, errdefs.ErrOutOfRange)
		}
		return nil, head[:n], nil
	}
	return nil, nil, err
}

// octets is the content type of everything that is stored.
const octets = "application/octet-stream"

// putWhole stores a blob that lies in memory. The request is signed with the body's hash instead of the client
// library's signed chunks: an empty body in signed chunks has bytes where its length says there are none, which servers
// then take for the beginning of the connection's next request.
func (s *Store) putWhole(ctx context.Context, d digest.Digest, data []byte) (blob.Info, error) {
	name, err := s.name(d)
	if err != nil {
		return blob.Info{}, err
	}
	if got := d.Algorithm().FromBytes(data); got != d {
		return blob.Info{}, fmt.Errorf("put blob %s: the bytes have %s: %w", d, got, errdefs.ErrInvalidArgument)
	}
	sum := d
	if d.Algorithm() != digest.SHA256 {
		sum = digest.FromBytes(data)
	}
	_, err = s.core.PutObject(ctx, s.bucket, name, bytes.NewReader(data), int64(len(data)), "", sum.Encoded(),
		minio.PutObjectOptions{ContentType: octets, DisableContentSha256: true})
	if err != nil {
		return blob.Info{}, fmt.Errorf("put blob %s: %w", d, err)
	}
	return blob.Info{Digest: d, Size: int64(len(data)), Modified: time.Now()}, nil
}

// verifier hands bytes on and, in the place of the last of them, an error when they do not have the digest: an object
// becomes visible with its last byte.
type verifier struct {
	r    io.Reader
	want digest.Digest
	hash hash.Hash
	left int64 // -1: not known, the end is the end
	err  error // why it refused
}

// Read implements io.Reader.
func (v *verifier) Read(p []byte) (int, error) {
	if v.err != nil {
		return 0, v.err
	}
	n, err := v.r.Read(p)
	v.hash.Write(p[:n])
	known := v.left >= 0
	if known {
		v.left -= int64(n)
	}
	switch {
	case known && v.left < 0:
		v.err = fmt.Errorf("more bytes than promised: %w", errdefs.ErrOutOfRange)
	case err != nil && err != io.EOF:
		v.err = err
	case err == io.EOF && known && v.left > 0:
		v.err = fmt.Errorf("%d bytes fewer than promised: %w", v.left, errdefs.ErrOutOfRange)
	case known && v.left == 0, err == io.EOF:
		if got := digest.NewDigest(v.want.Algorithm(), v.hash); got != v.want {
			v.err = fmt.Errorf("the bytes have %s: %w", got, errdefs.ErrInvalidArgument)
		}
	}
	if v.err != nil {
		return 0, v.err
	}
	return n, err
}

// Delete implements blob.Store.
func (s *Store) Delete(ctx context.Context, d digest.Digest) error {
	name, err := s.name(d)
	if err != nil {
		return err
	}
	if err := s.remove(ctx, name); err != nil {
		return fmt.Errorf("delete blob %s: %w", d, err)
	}
	return nil
}

// remove deletes an object; no error when it is gone.
func (s *Store) remove(ctx context.Context, name string) error {
	err := s.client.RemoveObject(ctx, s.bucket, name, minio.RemoveObjectOptions{})
	if missing(err) {
		return nil
	}
	return err
}

// Walk implements blob.Store.
func (s *Store) Walk(ctx context.Context, fn func(blob.Info) error) error {
	prefix := path.Join(s.prefix, "blobs") + "/"
	for i := range s.client.ListObjectsIter(ctx, s.bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: true}) {
		if i.Err != nil {
			return fmt.Errorf("walk blobs: %w", i.Err)
		}
		alg, rest, _ := strings.Cut(strings.TrimPrefix(i.Key, prefix), "/")
		d := digest.NewDigestFromEncoded(digest.Algorithm(alg), path.Base(rest))
		if d.Validate() != nil {
			continue // not ours
		}
		if err := fn(blob.Info{Digest: d, Size: i.Size, Modified: i.LastModified}); err != nil {
			return err
		}
	}
	return nil
}

// URL implements blob.Redirector.
func (s *Store) URL(ctx context.Context, d digest.Digest, valid time.Duration) (string, error) {
	name, err := s.name(d)
	if err != nil {
		return "", err
	}
	u, err := s.client.PresignedGetObject(ctx, s.bucket, name, valid, nil)
	if err != nil {
		return "", fmt.Errorf("presign blob %s: %w", d, err)
	}
	return u.String(), nil
}

// missing says that the object, or the multipart upload, is not there.
func missing(err error) bool {
	if err == nil {
		return false
	}
	r := minio.ToErrorResponse(err)
	return r.StatusCode == http.StatusNotFound || r.Code == minio.NoSuchKey || r.Code == minio.NoSuchUpload
}

// classed wraps an error of the service with the contract's class.
func classed(what, name string, err error) error {
	if missing(err) {
		return fmt.Errorf("%s %s: %w", what, name, errdefs.ErrNotFound)
	}
	return fmt.Errorf("%s %s: %w", what, name, err)
}
