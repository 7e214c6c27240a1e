# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The connection options of every module that talks to a cluster; _cluster/options.py reads them."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  kubeconfig:
    description:
      - Path of a kubeconfig file, or several paths separated by V(:), or the content of one as a dictionary.
      - Also read from the environment variable E(K8S_AUTH_KUBECONFIG).
      - Without O(kubeconfig), O(context) and enough of the other options to log in, the service account of the pod
        that this runs in is used, and outside a pod the file that E(KUBECONFIG) names, else C(~/.kube/config).
      - Credential plugins (C(exec)) in it are run, and run again when the API server no longer accepts their token.
    type: raw
  context:
    description:
      - Name of a context in the kubeconfig, instead of its C(current-context).
      - Also read from the environment variable E(K8S_AUTH_CONTEXT).
    type: str
  host:
    description:
      - URL of the API server.
      - Also read from the environment variable E(K8S_AUTH_HOST).
    type: str
  api_key:
    description:
      - Bearer token to log in with.
      - Also read from the environment variable E(K8S_AUTH_API_KEY).
    type: str
  username:
    description:
      - User name for API servers or proxies that take HTTP basic authentication, together with O(password).
      - Also read from the environment variable E(K8S_AUTH_USERNAME).
    type: str
  password:
    description:
      - Password that belongs to O(username).
      - Also read from the environment variable E(K8S_AUTH_PASSWORD).
    type: str
  client_cert:
    description:
      - Path of the client certificate to log in with, in PEM format.
      - Also read from the environment variables E(K8S_AUTH_CLIENT_CERT) and E(K8S_AUTH_CERT_FILE).
    type: path
    aliases: [cert_file]
  client_key:
    description:
      - Path of the private key that belongs to O(client_cert), in PEM format.
      - Also read from the environment variables E(K8S_AUTH_CLIENT_KEY) and E(K8S_AUTH_KEY_FILE).
    type: path
    aliases: [key_file]
  ca_cert:
    description:
      - Path of the CA certificates that the API server's certificate is checked against, in PEM format.
      - Also read from the environment variables E(K8S_AUTH_CA_CERT) and E(K8S_AUTH_SSL_CA_CERT).
    type: path
    aliases: [ssl_ca_cert]
  validate_certs:
    description:
      - Whether the API server's certificate is checked. It is, unless this or the kubeconfig says otherwise.
      - Also read from the environment variables E(K8S_AUTH_VALIDATE_CERTS) and E(K8S_AUTH_VERIFY_SSL).
    type: bool
    aliases: [verify_ssl]
  proxy:
    description:
      - URL of the HTTP proxy that leads to the API server.
      - C(proxy-url) of a kubeconfig is read by recent versions of the Python package kubernetes only (37 does, 35 does
        not).
      - Also read from the environment variable E(K8S_AUTH_PROXY).
    type: str
  no_proxy:
    description:
      - Hosts, domains, addresses and networks, separated by commas, that are reached without O(proxy).
      - Also read from the environment variable E(K8S_AUTH_NO_PROXY).
    type: str
  proxy_headers:
    description:
      - Headers that the proxy asks for.
    type: dict
    suboptions:
      proxy_basic_auth:
        description:
          - User name and password for the proxy, separated by a colon.
          - Also read from the environment variable E(K8S_AUTH_PROXY_HEADERS_PROXY_BASIC_AUTH).
        type: str
      basic_auth:
        description:
          - User name and password for HTTP basic authentication behind the proxy, separated by a colon.
          - Also read from the environment variable E(K8S_AUTH_PROXY_HEADERS_BASIC_AUTH).
        type: str
      user_agent:
        description:
          - The user agent to name to the proxy.
          - Also read from the environment variable E(K8S_AUTH_PROXY_HEADERS_USER_AGENT).
        type: str
  persist_config:
    description:
      - Whether a token that had to be refreshed is written back to the kubeconfig file.
      - Also read from the environment variable E(K8S_AUTH_PERSIST_CONFIG).
    type: bool
  impersonate_user:
    description:
      - User to act as; the user who logs in needs the permission to impersonate.
      - Also read from the environment variable E(K8S_AUTH_IMPERSONATE_USER).
    type: str
  impersonate_groups:
    description:
      - Groups to act as, together with O(impersonate_user).
      - Also read from the environment variable E(K8S_AUTH_IMPERSONATE_GROUPS), separated by commas.
    type: list
    elements: str
notes:
  - The connection options have the names and environment variables of C(kubernetes.core.k8s), so the same values serve
    both collections.
  - Requests that get no answer, or are told to come back later (429, 503), are repeated for up to a minute.
requirements:
  - kubernetes >= 28.1
"""
