"""What the tests of exports share: a task by the head of a model, and a saved model."""

from hfcompress.tasks import TASKS


def task_of_head(head):
    """The task whose auto class ends like this."""
    return next(task for task in TASKS.values() if task.auto_model == f"AutoModel{head}")


def saved(model, tokenizer, folder):
    """Save a model with its tokenizer; return the folder."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
