"""The data that ship with the library, and the made-up data."""

from importlib import resources

import numpy as np
import pytest

from jaxrec import InputError
from jaxrec.data import BUNDLED, load, synthetic


def test_msweb_is_what_its_source_says():
    data = load("msweb")
    assert data.name == "msweb" and data.shape == (37_711, 294) and data.nnz == 113_845 and data.is_binary
    train, test = (data.rows(data.user_split == side) for side in (0, 1))
    assert (train.n_users, train.nnz) == (32_711, 98_654) and np.count_nonzero(train.item_counts) == 285
    assert (test.n_users, test.nnz) == (5_000, 15_191)
    assert data.user_counts.min() >= 1
    assert data.items.label(1) == "Support Desktop [/support]" and data.items.find("support desktop") == 1
    assert data.items.find(1001) == 1


def test_a_file_called_like_a_bundled_set(tmp_path, monkeypatch):
    (tmp_path / "msweb").write_text("x")
    monkeypatch.chdir(tmp_path)
    assert load("msweb", name="web").name == "web"
    with pytest.raises(InputError, match="no known ending"):
        load("./msweb")


AUTHORS = {
    "msweb": ("Breese", "Heckerman", "Kadie"),
    "redial": ("Li", "Kahou", "Schulz", "Michalski", "Charlin", "Pal"),
}


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_data_load_and_name_their_authors(name):
    folder = resources.files("jaxrec.data") / "bundled"
    about, attribution = BUNDLED[name], (folder / "ATTRIBUTION.md").read_text(encoding="utf-8")
    data = load(name)
    assert f"{data.n_users:,} users x {data.n_items}" in about.description
    assert f"## {name}:" in attribution and "CC BY 4.0" in about.licence and "CC BY 4.0" in attribution
    assert all(author in about.attribution and author in attribution for author in AUTHORS[name])


def test_redial_is_what_its_source_says():
    data = load("redial")
    assert data.shape == (3_155, 6_916) and data.nnz == 16_734 and data.is_binary
    assert np.bincount(data.user_split).tolist() == [1_813, 1_342]
    assert data.items.label(data.items.find("Heat (1995)")) == "Heat (1995)"
    assert len(set(data.items.titles)) == data.n_items
    liked, not_disliked = (load("redial", min_rating=least).nnz for least in (2, 1))
    assert (liked, not_disliked) == (13_502, 15_970)  # of the film "None" nothing was said


def test_synthetic_has_the_shape_of_real_data():
    data = synthetic(3_000, 1_000, mean_history=30, seed=1)
    assert data.shape == (3_000, 1_000) and data.is_binary
    assert 25 < data.nnz / 3_000 < 35
    assert 12 < np.median(data.user_counts) < 21  # 0.55 of the mean
    popular = np.sort(data.item_counts)
    assert popular[-1] > 5 * np.median(popular)
    assert data.user_counts.min() >= 1 and data.user_counts.max() <= 500
    assert (
        data.to_csr().has_canonical_format or len(set(zip(data.user_of_entry, data.indices, strict=True))) == data.nnz
    )


def test_synthetic_users_of_a_cluster_are_alike():
    matrix = synthetic(500, 400, n_clusters=2, mean_history=30).to_csr()
    overlap = (matrix @ matrix.T).toarray().astype(float)
    counts = np.diag(overlap)
    cosine = overlap / np.sqrt(np.outer(counts, counts)) - np.eye(500)
    taste = np.linalg.eigh(cosine)[1][:, -2] > 0  # the second eigenvector parts two clusters
    assert cosine[taste][:, taste].mean() > 1.1 * cosine[taste][:, ~taste].mean()


def test_synthetic_is_repeatable():
    assert synthetic(50, 40, seed=3).fingerprint == synthetic(50, 40, seed=3).fingerprint
    assert synthetic(50, 40, seed=3).fingerprint != synthetic(50, 40, seed=4).fingerprint


@pytest.mark.parametrize(("n_users", "n_items"), [(1, 1), (1, 2), (7, 3), (3, 50)])
def test_synthetic_of_awkward_sizes(n_users, n_items):
    data = synthetic(n_users, n_items, mean_history=10, n_clusters=5)
    assert data.shape == (n_users, n_items) and (data.user_counts <= max(1, n_items // 2)).all()


@pytest.mark.parametrize("bad", [{"n_users": 0}, {"n_items": 2.5}, {"n_clusters": 0}, {"mean_history": -1.0}])
def test_synthetic_refuses(bad):
    with pytest.raises(InputError, match=next(iter(bad))):
        synthetic(**{"n_users": 3, "n_items": 3} | bad)
