# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A hash is of its own password and of no other, whoever made it."""

from __future__ import annotations

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._argocd import bcrypt_hash

# Of OpenBSD's and jBCrypt's published tests, with the prefixes in use.
KNOWN = (
    ("abc", "$2a$06$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i"),
    ("abc", "$2b$06$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i"),
    ("abc", "$2y$06$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i"),
    ("abcdefghijklmnopqrstuvwxyz", "$2a$06$.rCVZVOThsIa97pEDOxvGuRRgzG64bvtJ0938xuqzv18d3ZpQhstC"),
)


@pytest.mark.parametrize("password, hashed", KNOWN)
def test_hashes_of_others_are_checked(password, hashed):
    assert bcrypt_hash.matches(password, hashed)
    assert not bcrypt_hash.matches(password + "x", hashed) and not bcrypt_hash.matches(password, hashed[:-1] + "/")


@pytest.mark.parametrize("password", ["a", "correct horse", "æøå €", "x" * 72, "$2b$10$", " with spaces \n"])
def test_a_new_hash_is_of_its_password_alone_and_never_the_same_twice(password):
    one, two = bcrypt_hash.new(password), bcrypt_hash.new(password)
    assert one != two and one.startswith("$2b$10$") and len(one) == 60
    assert bcrypt_hash.matches(password, one) and bcrypt_hash.matches(password, two)
    assert not bcrypt_hash.matches(password[:-1], one) and not bcrypt_hash.matches(password[:-1] + "?", one)


@pytest.mark.parametrize("hashed", ["", "$2b$10$short", "plain", "$1$abc$def", "$2b$31$" + "." * 53, "$2b$aa$" + "." * 53, "$2b$10$" + "." * 53 + "\n"])
def test_what_is_no_hash_or_one_that_takes_too_long_matches_nothing(hashed):
    assert not bcrypt_hash.matches("abc", hashed)


@pytest.mark.parametrize("password, size", [("", 0), ("x" * 73, 73), ("æ" * 37, 74), ("a\0b", 3)])
def test_a_password_that_bcrypt_cannot_take_is_said(password, size):
    assert bcrypt_hash.wrong(password).startswith(f"has {size} bytes")


def test_a_password_that_is_not_utf8_is_said():
    assert bcrypt_hash.wrong("sword\udc80fish") == "is not UTF-8"
