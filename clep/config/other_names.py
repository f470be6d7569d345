"""Names that other frameworks give to the settings and choices of clep, and how names are compared."""

import difflib
import re
from collections.abc import Iterable

OTHER_NAMES = {
    "accumulate_grad_batches": ("accumulation", "grad_accum", "gradient_accumulation_steps", "accum_iter"),
    "batch_size": ("bs", "batch", "per_device_train_batch_size"),
    "clip_batch": ("batch_size", "bs", "batch"),
    "benchmarks": ("benchmark", "evaluator", "evaluators", "tasks"),
    "check_val_every_n_epoch": ("val_every", "eval_every", "val_interval", "eval_interval", "validate_every"),
    "chunk_size": ("micro_batch", "micro_batch_size", "grad_cache", "grad_cache_chunk"),
    "ckpt": ("ckpt_path", "checkpoint", "model_path", "weights"),
    "ckpt_path": ("resume", "resume_from", "resume_from_checkpoint", "checkpoint", "ckpt"),
    "compile": ("torch_compile",),
    "crop_px": ("image_size", "img_size", "resolution", "crop_size", "input_size"),
    "data": ("data_dir", "data_root", "data_path", "root", "dataset_path"),
    "decode_threads": ("threads", "num_threads", "num_workers", "workers"),
    "devices": ("gpus", "gpu", "num_gpus", "n_gpus", "num_devices"),
    "ema": ("ema_decay", "ema_momentum", "use_ema"),
    "encoder": ("backbone", "encoder_name", "video_model", "model"),
    "frames": ("num_frames", "n_frames", "frames_per_clip"),
    "gradient_clip_val": ("grad_clip", "clip_grad", "clip_grad_norm", "max_grad_norm", "gradient_clip"),
    "hidden_dim": ("hidden", "hidden_size", "mlp_dim"),
    "init_from": ("pretrained", "weights", "finetune_from", "init_ckpt"),
    "init_scale": ("temperature", "logit_scale", "tau"),
    "log_every_n_steps": ("log_every", "log_interval", "logging_steps", "print_freq", "log_freq"),
    "lr": ("learning_rate", "base_lr"),
    "model": ("ckpt", "ckpt_path", "checkpoint", "run"),
    "max_epochs": ("epochs", "num_epochs", "n_epochs", "num_train_epochs", "max_nb_epochs"),
    "models": ("model", "checkpoints"),
    "max_steps": ("steps", "num_steps", "iterations", "iters"),
    "name": ("run_name", "exp_name", "experiment_name", "task_name", "project_name"),
    "num_workers": ("workers", "n_workers", "dataloader_num_workers"),
    "out_dim": ("embed_dim", "embedding_dim", "proj_dim", "projection_dim", "output_dim"),
    "precision": ("amp", "fp16", "bf16", "mixed_precision"),
    "rate": ("fps", "frame_rate", "sample_rate", "target_fps"),
    "refresh_rate": ("progress_bar_refresh_rate",),
    "rows_per_second": ("fps", "rate", "features_per_second", "feature_rate"),
    "run": ("ckpt", "ckpt_path", "checkpoint", "model", "run_folder"),
    "runs": ("out_dir", "output_dir", "save_dir", "log_dir", "output"),
    "seed": ("random_seed", "seed_everything", "rng_seed", "random_state", "manual_seed"),
    "table": ("csv", "csv_file", "csv_path", "file"),
    "text_encoder": ("sentence_encoder", "text_model", "sentence_model", "language_model"),
    "val_fraction": ("val_split", "val_ratio", "val_size", "validation_split", "held_out_fraction"),
    "video_encoder": ("visual_encoder", "vision_encoder", "video_model"),
    "warmup": ("warmup_steps", "num_warmup_steps", "warmup_epochs", "warmup_ratio"),
    "window": ("clip_length", "clip_len", "clip_size", "window_size", "window_length", "segment_length"),
    "weight_decay": ("wd", "decay_rate"),
}
GROUP_NAMES = {
    "callbacks": ("callback",),
    "data": ("dataset", "datamodule", "dataloader"),
    "evaluator": ("evaluators", "evaluate", "eval", "benchmark", "benchmarks", "metric", "metrics"),
    "experiment": ("exp", "config", "recipe", "cfg"),
    "logger": ("loggers", "log", "logging", "tracker"),
    "loss": ("criterion", "objective", "loss_fn"),
    "model": ("arch", "architecture", "network", "tower"),
    "optim": ("optimizer", "optimiser", "opt"),
    "sampler": ("batch_sampler", "sampling"),
}
CHOICE_NAMES = {
    "clip": ("infonce", "nce", "contrastive", "clip_loss", "ntxent", "nt_xent"),
    "siglip": ("sigmoid",),
    "cross_entropy": ("ce", "softmax"),
    "adamw": ("adam", "sgd"),
    "tensorboard": ("tb",),
    "wandb": ("weights_and_biases", "wb"),
    "temporal": ("transformer", "attention"),
    "table": ("csv", "custom", "own"),
    "none": ("null", "off", "false"),
    # values of settings
    "16-mixed": ("fp16", "half", "amp", "float16", "mixed"),
    "bf16-mixed": ("bfloat16", "bf16_mixed"),
    "32-true": ("fp32", "float32", "full", "single"),
}

_DEVICES = "Did you mean trainer.devices=2 trainer.strategy=ddp?"
_EVALUATE = "Measure a trained run: python -m clep.evaluate ckpt=RUN; a training measures what evaluator=NAME chooses"
_TABLE = (
    "Your own data: experiment=table data.table=FILE data.features=DIR data.features_per_second=2 (or data.videos=DIR "
    "encoder=NAME instead of features)"
)
# Names without a setting that does the same: what to type instead. `<name>` stands for the path of that setting.
INSTEAD = {
    "Did you mean hydra.verbose=true?": ("verbose", "log_level", "loglevel", "logging_level", "verbosity"),
    "Encoders of banks are frozen; what is trained has layers to freeze: model=trainable_text "
    "model.text.frozen_layers=6, model=end_to_end model.video.frozen=4 or experiment=finetune_video model.frozen=all": (
        *("freeze", "frozen", "unfreeze", "freeze_text", "freeze_video", "freeze_encoder", "freeze_backbone"),
        *("frozen_layers", "freeze_layers", "trainable", "finetune", "fine_tune"),
    ),
    "Rows around a narration's time: <offset_s>, seconds on each side; frames of a row, when videos are read: "
    "python -m clep.preprocess videos videos=DIR output=BANK.h5 window=32": (
        *("clip_length", "clip_len", "clip_size", "clip_seconds", "clip_duration", "segment_length", "window"),
        *("window_size", "window_length", "window_seconds", "window_duration"),
    ),
    "Did you mean trainer.fast_dev_run=true or debug=limit?": ("dry_run", "smoke_test", "sanity_check", "quick_test"),
    f"{_EVALUATE}.": ("eval_only", "test_only", "inference", "predict", "mode", "do_eval", "do_train"),
    f"{_TABLE}.": (
        *(
            "annotations",
            "annotation",
            "csv",
            "csv_file",
            "csv_path",
            "table",
            "features",
            "feature_dir",
            "features_dir",
        ),
        *("videos", "video_dir", "video_folder", "captions", "pairs"),
    ),
    _DEVICES: ("ddp", "distributed", "multi_gpu", "data_parallel", "world_size"),
    "Did you mean trainer.devices=[0] (indices of GPUs)?": ("gpu_id", "gpu_ids", "device_ids", "cuda_visible_devices"),
    "Did you mean trainer.accelerator=gpu?": ("cuda", "use_cuda", "use_gpu"),
    "Did you mean trainer.accelerator=cpu?": ("cpu", "no_cuda", "use_cpu", "cpu_only"),
    "Did you mean trainer.accelerator=tpu trainer.devices=8?": ("tpu_cores", "tpus"),
    "Did you mean trainer.detect_anomaly=true? Steps that are not finite are skipped and counted in any case": (
        "terminate_on_nan",
        "detect_nan",
    ),
    "Did you mean precision=16-mixed or precision=bf16-mixed?": ("amp_backend", "amp_level", "amp_type"),
    "Search it: python train.py -m hparams_search=optuna": ("auto_lr_find", "lr_find", "auto_scale_batch_size"),
    "Checkpoints are callbacks: callbacks=default, callbacks=last, or settings of callbacks.checkpoint": (
        "checkpoint_callback",
        "enable_checkpointing",
        "save_checkpoints",
    ),
    "Did you mean trainer.enable_model_summary=true?": ("weights_summary", "model_summary", "summary"),
    "Did you mean callbacks.progress=null, for no progress bar?": (
        *("enable_progress_bar", "show_progress_bar", "no_progress_bar", "progress_bar", "tqdm"),
    ),
}
# The same where the value is true or false.
SWITCHES = {
    f"{_EVALUATE}.": ("eval", "evaluate", "test", "train", "training", "validate", "fit"),
    "Did you mean trainer.accelerator=gpu?": ("gpu", "gpus"),
    "Did you mean precision=16-mixed?": ("amp", "fp16", "half", "mixed_precision"),
    "Did you mean precision=bf16-mixed?": ("bf16",),
    "Did you mean ema=0.999?": ("ema", "use_ema"),
}
ON = ("true", "yes", "on", "True")
FLAGS = (*ON, "false", "no", "off", "False")


def instead(key: str, value: str | None) -> str | None:
    """Return what to type instead of a key that is no setting of clep under any name; None if nothing is known."""
    *parents, last = key.split(".")
    names = {bare(last), bare(f"{parents[-1]}{last}" if parents else last)}
    tables = [SWITCHES, INSTEAD] if value in FLAGS else [INSTEAD]
    return next((text for table in tables for text, those in table.items() if names & set(map(bare, those))), None)


def known_as(name: str, others: Iterable[str]) -> bool:
    """Whether a name is among others, apart from case, underscores and dashes."""
    return bare(name) in map(bare, others)


def choices_known_as(name: str, choices: Iterable[str]) -> list[str]:
    """Return the choices for which other programs use this name."""
    offered = set(choices)
    return [choice for choice, others in CHOICE_NAMES.items() if choice in offered and known_as(name, others)]


def bare(name: str) -> str:
    """Return a name in lower case, without underscores and dashes."""
    return re.sub("[_-]", "", name.lower())


def likeness(one: str, other: str) -> float:
    """Return how alike two names are, from 0 to 1."""
    return difflib.SequenceMatcher(None, bare(one), bare(other)).ratio()
