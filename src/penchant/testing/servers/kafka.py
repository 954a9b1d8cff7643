"""A Kafka broker of one node: jars by Maven, no ZooKeeper, no topics but those that are made."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from penchant.testing.servers.found import ADDS, cache_folder, has_library, java, java_missing
from penchant.testing.servers.ports import HOST, free_port
from penchant.testing.servers.process import Process

VERSION = "4.3.1"

_POM = Path(__file__).with_name("kafka-pom.xml")
_CLUSTER = "MkU3OEVBNTcwNTJENDM2Qg"
_LOGGING = """\
status=error
rootLogger.level=warn
rootLogger.appenderRef.out.ref=out
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d{ISO8601} %p %m (%c{1})%n%ex{short}
"""


class Kafka(Process):
    """A broker that is its own controller; `settings` are added to server.properties and win.

    Topics are never made by asking for them; see `create_topic`.
    """

    name = "kafka"
    starts_within = 120.0

    def __init__(
        self, folder: Path | str | None = None, *, port: int | None = None, settings: dict[str, str] | None = None
    ) -> None:
        super().__init__(folder, port=port)
        self._settings = settings or {}
        self._archives = False

    @classmethod
    def missing(cls) -> str | None:
        """Why no broker can run here, in one sentence."""
        if not has_library("confluent_kafka"):
            return "The Kafka client is not installed: `pip install 'penchant[kafka]'` adds it"
        if reason := java_missing():
            return reason
        if jars_missing():
            return f"Kafka's jars are not in {jars().parent}: {ADDS}, or `python -m penchant.testing.servers kafka`"
        return None

    @classmethod
    def install(cls, tell: Callable[[str], object] = str) -> None:
        """Fetch the jars with Maven and prepare what makes starts quick; nothing when all is there.

        Raises `RuntimeError` when Maven or Java is missing, or Maven fails.
        """
        if reason := java_missing():
            raise RuntimeError(reason)
        if jars_missing():
            tell(f"fetching Kafka {VERSION} (44 MB)")
            _fetch(jars())
        if has_library("confluent_kafka") and not _archive().exists():
            tell("preparing quick starts of Kafka")
            broker = cls()
            broker._archives = True
            with broker:
                pass  # Java writes the archive of its classes when the broker stops

    @property
    def bootstrap(self) -> str:
        """What clients call `bootstrap.servers`."""
        return self.address

    @property
    def url(self) -> str:
        """The broker for `[log] url`, without a topic: `kafka://HOST:PORT`."""
        return f"kafka://{self.address}"

    def topic_url(self, topic: str) -> str:
        """`kafka://HOST:PORT/TOPIC`."""
        return f"{self.url}/{topic}"

    def create_topic(self, topic: str, partitions: int = 1, **config: str) -> None:
        """Make a topic, its settings with `_` for `.` (`retention_ms="1000"`); raises `RuntimeError` when refused."""
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient
        from confluent_kafka.cimpl import NewTopic

        settings = {name.replace("_", "."): value for name, value in config.items()}
        asked = NewTopic(topic, num_partitions=partitions, replication_factor=1, config=settings)
        client = AdminClient(self._client())  # kept until it has answered
        try:
            client.create_topics([asked])[topic].result(timeout=30)
        except KafkaException as error:
            raise RuntimeError(f"Kafka did not make the topic {topic}: {error}") from error

    def prepare(self) -> None:
        data = self.folder / "logs"
        controller = self._controller_port()
        (self.folder / "server.properties").write_text(_properties(self.port, controller, data, self._settings))
        (self.folder / "log4j2.properties").write_text(_LOGGING)
        if not (data / "meta.properties").exists():
            shutil.rmtree(data, ignore_errors=True)
            shutil.copytree(_formatted(), data)

    def command(self) -> list[str]:
        archive = _archive()
        sharing = []
        if self._archives:
            sharing = [f"-XX:ArchiveClassesAtExit={archive}"]
        elif archive.exists():
            sharing = [f"-XX:SharedArchiveFile={archive}", "-Xlog:cds=off", "-Xlog:cds+dynamic=off"]
        return [
            *_java(jars(), "-Xms128m", "-Xmx512m", *sharing),
            f"-Dlog4j2.configurationFile={self.folder / 'log4j2.properties'}",
            "kafka.Kafka",
            str(self.folder / "server.properties"),
        ]

    def ready(self) -> bool:
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        try:
            socket.create_connection((HOST, self.port), timeout=1).close()
        except OSError:
            return False
        try:
            return bool(AdminClient(self._client()).list_topics(timeout=3).brokers)
        except KafkaException:
            return False

    def _client(self) -> dict[str, str | int | float | bool]:
        return {"bootstrap.servers": self.bootstrap, "log_level": 0, "socket.timeout.ms": 10_000}

    def _controller_port(self) -> int:
        """The port of the controller: the same after each restart, since the broker has written it down."""
        noted = self.folder / "controller.port"
        if not noted.exists():
            noted.write_text(str(free_port()))
        return int(noted.read_text())


def jars() -> Path:
    """The folder of Kafka's jars."""
    return cache_folder() / f"kafka-{VERSION}" / "libs"


def _archive() -> Path:
    return jars().parent / "classes.jsa"


def jars_missing() -> bool:
    """Whether Maven has not finished on the very pom that is in this package."""
    copied = jars().parent / "pom.xml"
    complete = copied.is_file() and copied.read_bytes() == _POM.read_bytes() and any(jars().glob("kafka_*.jar"))
    return not complete


def _fetch(libs: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise RuntimeError("Maven is not installed: `apt-get install maven` as root adds it")
    libs.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=libs.parent) as work:
        shutil.copy(_POM, Path(work) / "pom.xml")
        made = Path(work) / "libs"
        goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={made}"]
        told = subprocess.run([maven, "-q", "-B", "-ntp", *goal], cwd=work, capture_output=True, text=True, check=False)
        if told.returncode:
            raise RuntimeError(f"Maven did not fetch Kafka:\n{(told.stdout + told.stderr)[-2000:]}")
        for stale in (libs, libs.parent / "formatted"):
            shutil.rmtree(stale, ignore_errors=True)
        _archive().unlink(missing_ok=True)
        made.rename(libs)
    shutil.copy(_POM, libs.parent / "pom.xml")


def _formatted() -> Path:
    """A folder as Kafka's storage tool formats it, made once: the tool takes as long as the broker's start."""
    formatted = jars().parent / "formatted"
    if formatted.is_dir():
        return formatted
    with tempfile.TemporaryDirectory(dir=jars().parent) as work:
        data = Path(work) / "logs"
        settings = Path(work) / "server.properties"
        settings.write_text(_properties(9092, 9093, data, {}))
        tool = ["kafka.tools.StorageTool", "format", "-t", _CLUSTER, "-c", str(settings)]
        told = subprocess.run([*_java(jars()), *tool], cwd=work, capture_output=True, text=True, check=False)
        if told.returncode:
            raise RuntimeError(f"Kafka did not format its folder:\n{told.stdout[-1000:]}{told.stderr[-1000:]}")
        try:
            data.rename(formatted)
        except OSError:  # another run was quicker
            if not formatted.is_dir():
                raise
    return formatted


def _java(libs: Path, *options: str) -> list[str]:
    """A Java that starts quickly and takes one core's share of a busy machine."""
    return [
        java() or "java",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        *options,
        "-cp",
        str(libs) + os.sep + "*",
    ]


def _properties(port: int, controller: int, data: Path, more: dict[str, str]) -> str:
    """server.properties: small, and quick to take its own place again after `kill -9`."""
    settings = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{HOST}:{controller}",
        "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{port}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": str(data),
        "auto.create.topics.enable": "false",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "group.initial.rebalance.delay.ms": "0",
        # By default the partitions of a worker that was killed stand still for 45 s.
        "group.consumer.min.session.timeout.ms": "6000",
        "group.consumer.session.timeout.ms": "6000",
        "group.consumer.min.heartbeat.interval.ms": "1000",
        "group.consumer.heartbeat.interval.ms": "1000",
        "log.index.size.max.bytes": "1048576",
        "log.cleaner.dedupe.buffer.size": "8388608",
        # A killed broker waits out its own old session; a shorter one would fence a busy broker.
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
        **more,
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())
