// Package registryconfig reads the registry's configuration file: zot's own, in JSON or YAML.
//
// Load reads and checks a file; every mistake is told at once, by key, with its line. A key that zot does not know is
// refused by name. A key that zot knows and that Longshore cannot do yet is refused as well, unless it is switched off:
// nothing that a configuration asks for is ignored in silence. What has no meaning here (deduplication cannot be
// switched off, blobs are always committed) is accepted and told as a warning.
//
//	cfg, warnings, err := registryconfig.Load("/etc/zot/config.json")
package registryconfig

import "time"

// DistSpecVersion is the version of the OCI distribution specification that is served.
const DistSpecVersion = "1.1.1"

// Config is a whole configuration. Names and meanings are zot's.
type Config struct {
	DistSpecVersion string      `key:"distSpecVersion"`
	GoVersion       string      `key:"goVersion"`
	Commit          string      `key:"commit"`
	ReleaseTag      string      `key:"releaseTag"`
	BinaryType      string      `key:"binaryType"`
	Storage         Global      `key:"storage"`
	HTTP            HTTP        `key:"http"`
	Log             Log         `key:"log"`
	Extensions      *Extensions `key:"extensions"`
	Scheduler       *Scheduler  `key:"scheduler"`
	Cluster         *Later      `key:"cluster" later:"cluster"`
}

// Global is the storage section: the default store and the stores of sub-paths.
type Global struct {
	Storage     `key:",squash"`
	SubPaths    map[string]*Storage `key:"subPaths"`
	FastRestart bool                `key:"fastRestart"`
	MaxRepos    int                 `key:"maxRepos"`
	// RequireLayers refuses image manifests whose layers are not in the repository. Longshore's own.
	RequireLayers bool `key:"requireLayers"`
}

// Storage is one store.
type Storage struct {
	RootDirectory   string        `key:"rootDirectory"`
	Dedupe          *bool         `key:"dedupe"`
	RemoteCache     *bool         `key:"remoteCache"`
	GC              *bool         `key:"gc"`
	Commit          *bool         `key:"commit"`
	RedirectBlobURL bool          `key:"redirectBlobURL"`
	GCDelay         time.Duration `key:"gcDelay"`
	GCInterval      time.Duration `key:"gcInterval"`
	GCTimeWindow    string        `key:"gcTimeWindow"`
	Retention       Retention     `key:"retention"`
	StorageDriver   *S3           `key:"storageDriver"`
	CacheDriver     *Index        `key:"cacheDriver"`
}

// Retention says which tags and manifests are kept.
type Retention struct {
	DryRun   bool           `key:"dryRun"`
	Delay    *time.Duration `key:"delay"`
	Policies []Policy       `key:"policies"`
}

// Policy is the retention of the repositories that match; the first policy that matches counts.
type Policy struct {
	Repositories    []string      `key:"repositories"`
	DeleteReferrers bool          `key:"deleteReferrers"`
	DeleteUntagged  *bool         `key:"deleteUntagged"`
	KeepTags        []KeepTags    `key:"keepTags"`
	KeepUntagged    *KeepUntagged `key:"keepUntagged"`
}

// KeepTags keeps the tags that match a pattern and any of the rules; without a rule, all that match.
type KeepTags struct {
	Patterns     []string `key:"patterns"`
	KeepUntagged `key:",squash"`
}

// KeepUntagged are the rules; what meets any of them is kept.
type KeepUntagged struct {
	PulledWithin            *time.Duration `key:"pulledWithin"`
	PushedWithin            *time.Duration `key:"pushedWithin"`
	MostRecentlyPushedCount int            `key:"mostRecentlyPushedCount"`
	MostRecentlyPulledCount int            `key:"mostRecentlyPulledCount"`
}

// S3 is a bucket. The names are those of distribution's s3 driver, as zot's are.
type S3 struct {
	Name           string `key:"name"`
	RootDirectory  string `key:"rootdirectory"`
	Region         string `key:"region"`
	RegionEndpoint string `key:"regionendpoint"`
	Bucket         string `key:"bucket"`
	AccessKey      string `key:"accesskey"`
	SecretKey      string `key:"secretkey"`
	SessionToken   string `key:"sessiontoken"`
	ForcePathStyle *bool  `key:"forcepathstyle"`
	Secure         *bool  `key:"secure"`
	SkipVerify     bool   `key:"skipverify"`
	ChunkSize      int64  `key:"chunksize"`
	Other          []string
}

// Index is where the index lives: SQLite beside the blobs ("local", the default) or PostgreSQL.
type Index struct {
	// Name is "local", "boltdb" or "sqlite" (all of them SQLite) or "postgres".
	Name string `key:"name"`
	// URL is a PostgreSQL connection string.
	URL string `key:"url"`
	// Other holds the parameters of drivers that are not supported, by name.
	Other []string
}

// HTTP is the server.
type HTTP struct {
	Address       string         `key:"address"`
	Port          string         `key:"port"`
	ExternalURL   string         `key:"externalUrl"`
	AllowOrigin   string         `key:"allowOrigin"`
	Realm         string         `key:"realm"`
	TLS           *TLS           `key:"tls"`
	Auth          *Auth          `key:"auth"`
	AccessControl *AccessControl `key:"accessControl"`
	Ratelimit     *Ratelimit     `key:"ratelimit"`
	Compat        []string       `key:"compat"`
	ReadTimeout   time.Duration  `key:"readTimeout"`
	WriteTimeout  time.Duration  `key:"writeTimeout"`
}

// TLS names the files of the server's certificate and of the authority that signs clients' certificates.
type TLS struct {
	Cert   string `key:"cert"`
	Key    string `key:"key"`
	CACert string `key:"cacert"`
}

// Auth says who is who.
type Auth struct {
	FailDelay       int      `key:"failDelay"`
	HTPasswd        HTPasswd `key:"htpasswd"`
	Bearer          *Bearer  `key:"bearer"`
	MTLS            *MTLS    `key:"mtls"`
	APIKey          bool     `key:"apikey"`
	SessionKeysFile string   `key:"sessionKeysFile"`
	SessionDriver   *Session `key:"sessionDriver"`
	SecureSession   *bool    `key:"secureSession"`
	LDAP            *Later   `key:"ldap" later:"ldap"`
	OpenID          *Later   `key:"openid" later:"openid"`
	// Accounts and Token are Longshore's own.
	Accounts *Accounts `key:"accounts"`
	Token    *Token    `key:"token"`
	// HashKey and EncryptKey are read from SessionKeysFile.
	HashKey, EncryptKey []byte
}

// Accounts are people who are kept in the index, with the accounts API and OAuth2 for applications.
type Accounts struct {
	Enable *bool `key:"enable"`
	// Registration lets everybody make an account.
	Registration bool `key:"registration"`
}

// Token is our own token server.
type Token struct {
	Enable *bool `key:"enable"`
	// Service is the registry's name in tokens, Issuer the token server's.
	Service string `key:"service"`
	Issuer  string `key:"issuer"`
	// Realm is the URL that clients are sent to; empty is /token on externalUrl, or where the client came to.
	Realm string `key:"realm"`
	// Expiry is how long a token is good, RotateAfter how long a key signs.
	Expiry      time.Duration `key:"expiry"`
	RotateAfter time.Duration `key:"rotateAfter"`
	// KeysDirectory holds the keys; empty is a folder beside the index.
	KeysDirectory string `key:"keysDirectory"`
}

// HTPasswd names the password file.
type HTPasswd struct {
	Path string `key:"path"`
}

// Bearer is an external token server. Cert holds its certificate or its public key.
type Bearer struct {
	Realm                 string `key:"realm"`
	Service               string `key:"service"`
	Cert                  string `key:"cert"`
	OIDC                  *Later `key:"oidc" later:"bearerOIDC"`
	AWSSecretsManager     *Later `key:"awsSecretsManager" later:"bearerAWS"`
	UpstreamTokenEndpoint *Later `key:"upstreamTokenEndpoint" later:"bearerUpstream"`
}

// MTLS says how a client certificate becomes a user's name.
type MTLS struct {
	IdentityAttributes []string `key:"identityAttributes"`
	URISANPattern      string   `key:"uriSanPattern"`
	URISANIndex        int      `key:"uriSanIndex"`
	DNSSANIndex        int      `key:"dnsSanIndex"`
	EmailSANIndex      int      `key:"emailSanIndex"`
}

// Session is where cookie sessions live; "local" is the index.
type Session struct {
	Name      string `key:"name"`
	URL       string `key:"url"`
	KeyPrefix string `key:"keyprefix"`
	Other     []string
}

// AccessControl says who may do what.
type AccessControl struct {
	Repositories map[string]*PolicyGroup `key:"repositories"`
	AdminPolicy  AccessPolicy            `key:"adminPolicy"`
	Groups       map[string]*Group       `key:"groups"`
	Metrics      Metrics                 `key:"metrics"`
}

// Group is a named set of users.
type Group struct {
	Users []string `key:"users"`
}

// PolicyGroup holds the policies of the repositories that match a pattern.
type PolicyGroup struct {
	Policies        []AccessPolicy `key:"policies"`
	DefaultPolicy   []string       `key:"defaultPolicy"`
	AnonymousPolicy []string       `key:"anonymousPolicy"`
}

// AccessPolicy gives users and groups actions, while all the conditions hold.
type AccessPolicy struct {
	Users      []string    `key:"users"`
	Groups     []string    `key:"groups"`
	Actions    []string    `key:"actions"`
	Conditions []Condition `key:"conditions"`
}

// Condition is an expression over the request, and what a client is told when it does not hold.
type Condition struct {
	Expression string `key:"expression"`
	Message    string `key:"message"`
}

// Metrics says who may read the metrics.
type Metrics struct {
	Users           []string `key:"users"`
	AnonymousPolicy []string `key:"anonymousPolicy"`
}

// Ratelimit bounds requests per second, of all methods and of some.
type Ratelimit struct {
	Rate    *int         `key:"rate"`
	Methods []MethodRate `key:"methods"`
}

// MethodRate bounds one method's requests per second.
type MethodRate struct {
	Method string `key:"method"`
	Rate   int    `key:"rate"`
}

// Log says what is written where; empty Output is standard output, empty Audit is no audit log.
type Log struct {
	Level  string `key:"level"`
	Output string `key:"output"`
	Audit  string `key:"audit"`
}

// Scheduler is accepted; Longshore's background work needs no worker count.
type Scheduler struct {
	NumWorkers int `key:"numWorkers"`
}

// Extensions are zot's optional parts.
type Extensions struct {
	Metrics *MetricsExtension `key:"metrics"`
	Mgmt    *Enable           `key:"mgmt"`
	APIKey  *Enable           `key:"apikey"`
	V1      *V1               `key:"v1"`
	Search  *Later            `key:"search" later:"search"`
	Sync    *Later            `key:"sync" later:"sync"`
	Scrub   *Later            `key:"scrub" later:"scrub"`
	Lint    *Later            `key:"lint" later:"lint"`
	UI      *Later            `key:"ui" later:"ui"`
	Trust   *Later            `key:"trust" later:"trust"`
	Events  *Later            `key:"events" later:"events"`
}

// V1 is registry API v1 with its index API. Longshore's own.
type V1 struct {
	Enable *bool `key:"enable"`
	// Standalone lets clients do without tokens of the index; without it, whether anybody can have a name decides.
	Standalone *bool `key:"standalone"`
	// Endpoints are the hosts that the index names as registries; without them, the host that was asked.
	Endpoints []string `key:"endpoints"`
}

// MetricsExtension is the metrics endpoint.
type MetricsExtension struct {
	Enable     *bool       `key:"enable"`
	Prometheus *Prometheus `key:"prometheus"`
}

// Prometheus is the path of the metrics endpoint.
type Prometheus struct {
	Path string `key:"path"`
}

// Enable is a part that is only switched on or off.
type Enable struct {
	Enable *bool `key:"enable"`
}
