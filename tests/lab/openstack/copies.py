# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies of one server and its port, as rows in the databases of Nova and Neutron: 1,000 servers in seconds, to be listed and nothing else.

    python copies.py < ORDER, in the state folder of a cloud, with the Python of OpenStack's own environment

ORDER is {"server": its ID, "name": its name, "port": its ID, "mac": …, "address": …, "copies": [the same of each copy]}.
"""

from __future__ import annotations

import json
import sys
import uuid
from typing import Any, Dict, Iterator, List, Sequence, Tuple

import pymysql

SAME = ("server", "port", "mac", "address", "name")
# What happened to the server is not told of its copies.
LEFT_OUT = ("instance_actions",)
# So far away from the last ID that Neutron, which runs, does not come to it.
FAR = 1_000_000

Row = Dict[str, Any]


class Databases:
    def __init__(self) -> None:
        self.connection = pymysql.connect(user="root", unix_socket="mysql.sock", autocommit=True, cursorclass=pymysql.cursors.DictCursor)

    def ask(self, statement: str, *values: Any) -> List[Row]:
        with self.connection.cursor() as cursor:
            cursor.execute(statement, values)
            return list(cursor.fetchall())

    def columns(self, database: str, name: str) -> List[str]:
        """The tables that have a column of this name."""
        found = self.ask("SELECT table_name AS name FROM information_schema.columns WHERE table_schema = %s AND column_name = %s", database, name)
        return [row["name"] for row in found if row["name"] not in LEFT_OUT]

    def counted(self, database: str, table: str) -> List[str]:
        """The columns that the database numbers."""
        found = self.ask(
            "SELECT column_name AS name FROM information_schema.columns WHERE table_schema = %s AND table_name = %s AND extra LIKE '%%auto_increment%%'",
            database, table)
        return [row["name"] for row in found]

    def insert(self, table: str, rows: Sequence[Row]) -> None:
        if rows:
            names = ", ".join(f"`{name}`" for name in rows[0])
            with self.connection.cursor() as cursor:
                cursor.executemany(f"INSERT INTO {table} ({names}) VALUES ({', '.join(['%s'] * len(rows[0]))})", [list(row.values()) for row in rows])


def places(databases: Databases) -> Iterator[Tuple[str, str, str, str]]:
    """(database, table, column, what its value is of the server)"""
    yield "nova", "instances", "uuid", "server"  # others refer to it
    for database in ("nova", "nova_api"):
        for table in databases.columns(database, "instance_uuid"):
            yield database, table, "instance_uuid", "server"
    yield "nova", "tags", "resource_id", "server"
    yield "neutron", "ports", "id", "port"  # others refer to it
    for table in databases.columns("neutron", "port_id"):
        yield "neutron", table, "port_id", "port"


def changed(row: Row, order: Row, copy: Row, numbered: Sequence[str], column: str) -> Row:
    made = {}
    for name, value in row.items():
        if name in numbered:
            continue
        if name == "uuid" and name != column and value != order["port"]:
            value = str(uuid.uuid4())  # a row's own
        elif isinstance(value, str):
            for field in SAME:
                value = value.replace(order[field], copy[field])
        made[name] = value
    return made


def main(order: Row) -> None:
    databases = Databases()
    attributes = databases.ask(
        "SELECT a.* FROM neutron.standardattributes a JOIN neutron.ports p ON p.standard_attr_id = a.id WHERE p.id = %s", order["port"])[0]
    first = databases.ask("SELECT MAX(id) AS last FROM neutron.standardattributes")[0]["last"] + FAR
    databases.insert("neutron.standardattributes", [{**attributes, "id": first + number} for number in range(len(order["copies"]))])
    for database, table, column, of in places(databases):
        numbered = databases.counted(database, table)
        rows = []
        for row in databases.ask(f"SELECT * FROM {database}.{table} WHERE `{column}` = %s", order[of]):
            for number, copy in enumerate(order["copies"]):
                made = changed(row, order, copy, numbered, column)
                rows.append({**made, "standard_attr_id": first + number} if "standard_attr_id" in made else made)
        databases.insert(f"{database}.{table}", rows)


if __name__ == "__main__":
    main(json.load(sys.stdin))
