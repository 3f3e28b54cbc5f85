# Asks a console as a script in Python does. Arguments: host and port. Prints one JSON object.
import json
import sys

import psycopg2

host, port = sys.argv[1:3]
connection = psycopg2.connect(host=host, port=port, user="postgres", dbname="walcast")
said = {}
with connection:
    with connection.cursor() as cursor:
        sql = "SELECT application_name, state, sync_priority FROM pg_stat_replication WHERE application_name = %s"
        cursor.execute(sql, ("receiver",))
        said["row"] = cursor.fetchone()
        said["columns"] = [column.name for column in cursor.description]
        cursor.execute("SELECT active, safe_wal_size FROM pg_replication_slots WHERE slot_name = %s", ("spare",))
        said["slot"] = [type(value).__name__ for value in cursor.fetchone()]
        cursor.execute("SHOW HBA")
        said["databases"] = cursor.fetchall()[0][4]
try:
    with connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE t (a int)")
except psycopg2.Error as error:
    said["error"] = error.pgcode
with connection, connection.cursor() as cursor:
    cursor.execute("SELECT backend_start, write_lag FROM pg_stat_replication WHERE application_name = 'receiver'")
    start, lag = cursor.fetchone()
    said["types"] = [type(start).__name__, type(lag).__name__]
connection.autocommit = True
with connection.cursor() as cursor:
    cursor.execute("SHOW STATE")
    said["state"] = cursor.fetchone()[0]
connection.close()
print(json.dumps(said))
