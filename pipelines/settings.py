"""The one run configuration: each section is the model beside the code that it configures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from recsys.address import Address, shown
from recsys.candidates import CandidateConfig
from recsys.cascade import FirstPass
from recsys.encoder import EncoderConfig
from recsys.ranker import HeadConfig, RankerConfig
from recsys.schema import DataConfig
from recsys.state import StateConfig
from recsys.training import TrainingConfig

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class SplitConfig(BaseModel):
    """How time is cut into windows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    protocol: Literal["auto", "time", "leave_last_out"] = "auto"
    share: float = Field(0.1, gt=0, lt=0.3)  # of the events, for ranker, valid and test each
    seen: Literal["auto", "list", "exclude"] = "auto"  # auto: list again where users repeat items
    repeat_share: float = Field(0.1, ge=0, le=1)  # auto: at least this share of repeated events


class FeatureConfig(BaseModel):
    """Which features the ranker sees."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: bool = True  # false: it sees no text, and no source by text brings candidates
    off: tuple[str, ...] = ()
    on: tuple[str, ...] = ()  # of those that are off unless named here


class EvaluationConfig(BaseModel):
    """How runs are measured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_requests: int = Field(10_000, ge=1)  # a window, sampled beyond
    seed: int = Field(0, ge=0)  # of that sample: runs compare on equal requests, whatever `seed`
    resamples: int = Field(1000, ge=10)  # of users, for every interval
    refit_encoder: Literal["auto", "always", "never"] = "auto"  # unless valid is clearly worse


class PromotionConfig(BaseModel):
    """What a challenger must show before it becomes champion; margins are shares of its value."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: Literal["ndcg_at_10", "hr_at_10", "recall_at_20", "mrr_at_10", "map_at_10"] = (
        "ndcg_at_10"
    )
    retrained: bool = False  # not to be worse by more than `margin` is enough, as with --retrained
    margin: float = Field(0.02, ge=0, le=1)  # a re-training: the interval may reach so far below 0
    slice_margin: float = Field(0.1, ge=0, le=1)  # a slice may be so much worse
    slice_users: int = Field(100, ge=1)  # slices of fewer decide nothing
    list_users: int = Field(500, ge=1)  # whose lists are looked at


class TrackingConfig(BaseModel):
    """Where MLflow keeps runs and models."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: Address = ""  # empty: sqlite database in run_dir
    experiment: str = "recsys"
    model: str = "recommender"  # name in the registry
    carry_events: int = Field(20_000_000, ge=0)  # longest log that a model has with it, to list


class ServingPaths(BaseModel):
    """The `serving` section; `serving.settings.ServingConfig` reads the same keys without us."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    releases: Path = Path("runs/releases")
    remote: Address = ""
    store: Address = "runs/store"
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    k: int = Field(20, ge=1, le=1000)
    api: dict[str, Any] = {}  # `recsys serve` alone reads and checks it


class GateLimits(BaseModel):
    """The `gates` section; `serving.settings.GateConfig` reads the same keys without us."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    active_coverage: Share = 0.95
    short_items: Count = 5
    short_lists: Share = 0.05
    unavailable_rows: Share = 0.0
    item_share: Share = 0.99
    category_share: Share = 0.95
    overlap: Share = 0.1
    overlap_users: Count = 10_000
    users_lost: Share = 0.1
    items_lost: Share = 0.5
    data_age_days: float = Field(0.0, ge=0)
    least_users: Count = 50


class BatchConfig(BaseModel):
    """Whose lists `recsys recommend` makes, of what, and by whom."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    users: Address = Field("all", min_length=1)  # "all", "active", or a file with user_id
    active_days: int = Field(28, ge=1)  # "active": took something in so many days before as_of
    exclude: Address | None = None  # file of item_id: never listed
    executor: Literal["local", "processes", "ray"] = "local"  # this process, workers of it, or Ray
    workers: int | None = Field(None, ge=1)  # not set: as many as there are cores
    ray_address: str | None = None  # of a running cluster, like "auto"; not set: one of its own


class RunConfig(BaseModel):
    """Everything a run depends on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_dir: Path = Path("runs/default")  # prepared data, embeddings, reports
    seed: int = Field(0, ge=0)
    data: DataConfig = DataConfig()
    split: SplitConfig = SplitConfig()
    encoder: EncoderConfig = EncoderConfig()
    training: TrainingConfig = TrainingConfig()
    state: StateConfig = StateConfig()
    candidates: CandidateConfig = CandidateConfig()
    features: FeatureConfig = FeatureConfig()
    ranker: RankerConfig = RankerConfig()
    first_pass: FirstPass = FirstPass()
    heads: HeadConfig = HeadConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    promotion: PromotionConfig = PromotionConfig()
    tracking: TrackingConfig = TrackingConfig()
    serving: ServingPaths = ServingPaths()
    gates: GateLimits = GateLimits()
    batch: BatchConfig = BatchConfig()

    def portable(self) -> RunConfig:
        """Return the config without places, ports, gates and workers: what results depend on.

        Whose lists are made is said by a release's plan.
        """
        plain = {"serving": ServingPaths(k=self.serving.k), "gates": GateLimits(),
                 "batch": BatchConfig()}  # fmt: skip
        return self.model_copy(update={"run_dir": Path(), **plain})

    @property
    def tracking_uri(self) -> str:
        """MLflow's address."""
        return self.tracking.uri or self.own_uri

    @property
    def shown_tracking_uri(self) -> str:
        """The same, as it may be printed: without user and password."""
        return shown(self.tracking_uri)

    @property
    def recording_uri(self) -> str:
        """Where a run is written while it works: MLflow's address if that is a file, else here."""
        is_file = self.tracking_uri.startswith("sqlite:")
        return self.tracking_uri if is_file else self.own_uri

    @property
    def own_uri(self) -> str:
        """Of the store in the run folder."""
        return f"sqlite:///{(self.run_dir / 'mlflow.db').resolve()}"
