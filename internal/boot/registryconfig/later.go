package registryconfig

import (
	"reflect"
	"strings"
)

// Later is a part of zot that Longshore does not have yet. It is accepted while it is switched off.
type Later struct{}

// laterKeys are the keys of such parts, so that a misspelt one is told as what it is: names, with {} around the names
// below; "*" is any name.
var laterKeys = map[string]string{
	"cluster": `members hashKey tls{cert key cacert}`,
	"ldap": `credentialsFile port insecure startTLS skipVerify subtreeSearch address userGroupAttribute baseDN
		userAttribute userFilter caCert bindDN bindPassword`,
	"openid": `callbackAllowOrigins providers{*{credentialsFile name clientid clientsecret keypath issuer scopes authurl
		tokenurl claimMapping{username groups}}}`,
	"bearerOIDC":     `issuer audiences claimMapping{username groups} certificateAuthority certificateAuthorityFile skipIssuerVerification`,
	"bearerAWS":      `region secretName refreshInterval`,
	"bearerUpstream": `realm service allowInsecureHttp`,
	"search": `enable cve{updateInterval trivy{dbRepository javaDBRepository vulnSeveritySources
		sbom{enable format}}}`,
	"sync": `enable credentialsFile downloadDir registries{urls onDemand pollInterval manifestCheckInterval tlsVerify certDir
		maxRetries retryDelay maxRetryDelay reqConcurrent reqPerSec disableHTTP2 maxIdleConnsPerHost onlySigned
		preserveDigest syncTimeout credentialHelper
		oauth2CredentialHelper{grantType tokenURL clientID clientSecretFile assertionFile signingFile audience scopes
		requestedTokenType subjectTokenType username}
		content{prefix destination stripPrefix tags{regex excludeRegex semver}}}`,
	"scrub":  `enable interval`,
	"lint":   `enable mandatoryAnnotations`,
	"ui":     `enable`,
	"trust":  `enable cosign notation`,
	"events": `enable sinks{type address channel timeout credentials{username password token file} tls{cert key cacert} headers{*}}`,
}

type schema map[string]schema

// parseSchema reads the little language of laterKeys.
func parseSchema(text string) schema {
	text = strings.NewReplacer("{", " { ", "}", " } ").Replace(text)
	root := schema{}
	stack, last := []schema{root}, ""
	for _, w := range strings.Fields(text) {
		top := stack[len(stack)-1]
		switch w {
		case "{":
			top[last] = schema{}
			stack = append(stack, top[last])
		case "}":
			stack = stack[:len(stack)-1]
		default:
			top[strings.ToLower(w)], last = nil, strings.ToLower(w)
		}
	}
	return root
}

func (d *decoder) later(n *node, v reflect.Value, name string) {
	before := len(d.problems)
	d.known(n, parseSchema(laterKeys[name]))
	if len(d.problems) > before {
		return
	}
	if e := n.child("enable"); e != nil && strings.EqualFold(e.text, "false") {
		return
	}
	v.Set(reflect.ValueOf(&Later{}))
	d.fail(n, "not supported yet")
}

// known tells keys that zot does not have below n.
func (d *decoder) known(n *node, s schema) {
	if n.kind == isList {
		for _, item := range n.items {
			d.known(item, s)
		}
		return
	}
	for i, key := range n.keys {
		below, ok := s[strings.ToLower(key)]
		if !ok {
			below, ok = s["*"]
		}
		if !ok {
			d.fail(n.items[i], "unknown key")
			continue
		}
		if below != nil {
			d.known(n.items[i], below)
		}
	}
}
